"""A host with both families: the IPv4 host of `endpoint`, and IPv6 beside it from when it is wanted.

TCP, UDP and echo are one for both families; what they send goes to the layer of its address. IPv6 is made by `start_ipv6`, or by
giving the host an IPv6 address, so a test of IPv4 sees none of it: before that, IPv6 frames are of an unknown type.
"""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Interface

from netemu.errors import LocalError
from netemu.net.port import Frame
from netemu.stack.dhcp6_service import Dhcp6Service
from netemu.stack.endpoint import Ipv4Stack
from netemu.stack.ipv6 import Ipv6Layer
from netemu.wire.ether import Ethernet, EtherType
from netemu.wire.fields import IPAddress
from netemu.wire.ipv6 import MINIMUM_MTU

__all__ = ["DualStack"]

_GROUP = b"\x33\x33"  # the front of a multicast MAC address (RFC 2464 7)


class DualStack(Ipv4Stack):
    """One host; `ipv6` is None until IPv6 is wanted, `dhcp6` until DHCPv6 is."""

    ipv6: Ipv6Layer | None = None
    dhcp6: Dhcp6Service | None = None

    def start_ipv6(self, now: int) -> Ipv6Layer:
        """Speak IPv6: own a link-local address and ask for routers. A second call asks for routers again.

        `LocalError` on a link whose MTU is less than 1,280 (RFC 8200 5).
        """
        layer = self.ipv6
        if layer is None:
            if self.link_mtu < MINIMUM_MTU:
                raise LocalError(f"IPv6 on a link with an MTU of {self.link_mtu}: it needs {MINIMUM_MTU}")
            layer = self.ipv6 = Ipv6Layer(self)
            layer.node.start(now)
        else:
            layer.node.discovery.start(now)
        self.wake()
        return layer

    def configure_ipv6(self, interface: IPv6Interface, router: IPv6Address | None, now: int) -> None:
        """Own this address too; its network is on the link. `router` is used for the rest."""
        layer = self.ipv6 or self.start_ipv6(now)
        layer.node.configure(interface, router, now)
        self.wake()

    def start_dhcp6(self, now: int) -> Dhcp6Service:
        """The DHCPv6 client, made when first wanted; what it shall do is the caller's to say."""
        layer = self.ipv6 or self.start_ipv6(now)
        if self.dhcp6 is None:
            self.dhcp6 = Dhcp6Service(layer.node, self.udp, self.mac, self.getrandbits)
        return self.dhcp6

    def close(self) -> None:
        self.dhcp6 = None  # its socket is one of those that are closed now
        super().close()
        if self.ipv6 is not None:
            self.ipv6.close()
            self.ipv6 = None

    def payload_limit(self, destination: IPAddress) -> int:
        if self.ipv6 is not None and destination.version == 6:
            return self.ipv6.payload_limit()
        return super().payload_limit(destination)

    def source_for(self, destination: IPAddress) -> IPAddress:
        if self.ipv6 is not None and isinstance(destination, IPv6Address):
            return self.ipv6.source_for(destination)
        return super().source_for(destination)

    def send(
        self,
        source: IPAddress,
        destination: IPAddress,
        protocol: int,
        payload: bytes,
        *,
        ttl: int = 64,
        dont_fragment: bool = False,
    ) -> None:
        if self.ipv6 is None or not (isinstance(source, IPv6Address) and isinstance(destination, IPv6Address)):
            super().send(source, destination, protocol, payload, ttl=ttl, dont_fragment=dont_fragment)
            return
        if not 1 <= ttl <= 255:
            raise LocalError(f"a hop limit of {ttl}: give 1 to 255")
        self.ipv6.send(source, destination, protocol, payload, ttl)

    def transmit(self, now: int) -> list[Frame]:
        if self.dhcp6 is not None:
            self.dhcp6.work(now)
        frames = super().transmit(now)
        if self.ipv6 is not None:
            frames += self.ipv6.work(now)
            if self.ipv6.waiting or self.tcp.waiting:
                self.wakeup()
        return frames

    def deadline(self) -> int | None:
        parts = [part for part in (self.ipv6, self.dhcp6) if part is not None]
        moments = (super().deadline(), *(part.deadline() for part in parts))
        return min((moment for moment in moments if moment is not None), default=None)

    def expire(self, now: int) -> None:
        super().expire(now)
        for part in (self.ipv6, self.dhcp6):
            if part is not None:
                part.expire(now)

    def _receive_frame(self, frame: Ethernet, now: int) -> None:
        group = frame.destination[:2] == _GROUP
        if self.ipv6 is None or frame.ethertype != EtherType.IPV6 or not (group or frame.destination == self.mac):
            super()._receive_frame(frame, now)
        else:
            self.ipv6.receive(frame.payload, now, link_multicast=group)
