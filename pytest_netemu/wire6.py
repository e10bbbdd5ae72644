"""The IPv6 half of the wire: router, neighbours, servers and attacker, for checks of a guest's stack.

    six = Wire6(netemu_wire).up()                   # the guest has addresses in fe80::/64 and in the router's prefix
    six.echo()
    six.wire.expect(Icmpv6, type=Icmpv6Type.ECHO_REPLY)

`advertisement` is what the router says to who asks; `up` answers with it until the guest is configured, and `advertise` says it, or
another, at any time. Both halves of a guest's addresses are made from its hardware address (RFC 4291 2.5.1, RFC 2464 4), so a check
knows them beforehand. Silence is what it is on the IPv4 half; here an IPv6 echo is the barrier.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv6Address, IPv6Network
from typing import Final, Self, cast

from netemu.errors import NetemuTimeoutError
from netemu.guest.protocol import SlaacGuest
from netemu.wire.icmpv6 import Icmpv6, Icmpv6Type
from netemu.wire.ipv6 import ALL_NODES, Extension, IPv6, NextHeader, interface_identifier
from netemu.wire.ndisc import HOP_LIMIT, NeighbourAdvertisement, RouterAdvertisement, RouterSolicitation
from netemu.wire.ndisc_options import PrefixInformation, SourceLinkLayerAddress, TargetLinkLayerAddress
from pytest_netemu.packet import Layer, Packet
from pytest_netemu.station6 import Station6, link_local
from pytest_netemu.wire import Wire

__all__ = ["ELSEWHERE", "IDENTIFIER", "PREFIX", "Wire6"]

PREFIX: Final = IPv6Network("2001:db8:1::/64")  # RFC 3849: for documentation
ELSEWHERE: Final = IPv6Address("2001:db8:ffff::7")  # behind the router
IDENTIFIER: Final = 7  # of the checks' own echo requests

_DAY: Final = 86_400  # seconds
_BARRIER: Final = 0xBA66  # the identifier of a barrier's echo requests
_PATIENCE: Final = 20.0  # seconds that a real guest may take for what it does at once


class Wire6(Station6):
    """`wire`, speaking IPv6. `address` and `link_local` are the router's, `guest_address` and `opposite` the guest's."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire, PREFIX, link_local(wire.guest.mac))
        self.wire = wire
        self.guest = cast("SlaacGuest", wire.guest)
        self.guest_address = self.address_in(PREFIX)
        self.advertisement = RouterAdvertisement(options=(SourceLinkLayerAddress(self.mac), PrefixInformation(PREFIX, _DAY, _DAY)))
        self._opposite_mac = wire.guest.mac
        self._barriers = 0
        self.is_router = True

    def address_in(self, prefix: IPv6Network) -> IPv6Address:
        """The address that the guest makes in `prefix`."""
        return IPv6Address(int(prefix.network_address) | interface_identifier(self.wire.guest.mac))

    def up(self) -> Self:
        """Have the guest configure itself from the router, and be ready for its frames; gives the wire back."""
        self.answer_solicitations()
        self.guest.slaac()
        self.echo()  # and so the guest knows the router's hardware address: what it answers later does not wait for it
        self.answered(within=_PATIENCE)
        self.wire.inbox.clear()
        return self

    def answer_solicitations(self) -> None:
        """Advertise the router to who asks, from now on."""
        self.wire.answer(RouterSolicitation, lambda _: self.advertise())

    def without_router(self, seconds: float) -> Self:
        """Have the guest look for routers for so long, in vain; gives the wire back."""
        with suppress(NetemuTimeoutError):
            self.guest.slaac(timeout=seconds)
        return self

    # Sending

    def advertise(
        self, message: RouterAdvertisement | None = None, *, source: IPv6Address | None = None, hop_limit: int = HOP_LIMIT
    ) -> None:
        """Send an advertisement of a router to all nodes."""
        said = self.advertisement if message is None else message
        self.send_icmp(said.icmpv6(), ALL_NODES, source=source or self.link_local, hop_limit=hop_limit)

    def advertise_neighbour(
        self,
        target: IPv6Address,
        *,
        destination: IPv6Address | None = None,
        solicited: bool = True,
        override: bool = True,
        router: bool = False,
        hop_limit: int = HOP_LIMIT,
    ) -> None:
        """Send the guest, or `destination`, an advertisement that the station has `target`."""
        options = (TargetLinkLayerAddress(self.mac),)
        message = NeighbourAdvertisement(target, router, solicited, override, options)
        self.send_icmp(message.icmpv6(), destination or self.opposite, source=self.link_local, hop_limit=hop_limit)

    def echo(
        self,
        data: bytes = b"ping",
        *,
        sequence: int = 1,
        destination: IPv6Address | None = None,
        source: IPv6Address | None = None,
        extensions: tuple[Extension, ...] = (),
        hop_limit: int = 64,
    ) -> IPv6:
        """Send an echo request to the guest's address in the prefix, or to `destination`; gives it back."""
        return self.send(self.echo_packet(data, sequence, destination, source, extensions, hop_limit))

    def echo_packet(
        self,
        data: bytes = b"ping",
        sequence: int = 1,
        destination: IPv6Address | None = None,
        source: IPv6Address | None = None,
        extensions: tuple[Extension, ...] = (),
        hop_limit: int = 64,
    ) -> IPv6:
        """What `echo` sends."""
        destination, source = destination or self.guest_address, source or self.address
        message = Icmpv6.echo_request(IDENTIFIER, sequence, data).pack(source, destination)
        return IPv6(source, destination, NextHeader.ICMPV6, message, hop_limit, extensions=extensions)

    # Seeing

    def answered(self, sequence: int = 1, *, within: float = 1.0) -> Packet:
        """The reply to an echo request."""
        __tracebackhide__ = True
        return self.wire.expect(Icmpv6, within=within, type=Icmpv6Type.ECHO_REPLY, identifier=IDENTIFIER, sequence=sequence)

    def unanswered(self) -> None:
        """No reply comes to an echo request."""
        __tracebackhide__ = True
        self.silence(Icmpv6, type=Icmpv6Type.ECHO_REPLY, identifier=IDENTIFIER)

    def barrier(self) -> None:
        """Return when the guest has answered what was sent so far, as far as it answers at once."""
        __tracebackhide__ = True
        self._barriers += 1
        self.send_icmp(Icmpv6.echo_request(_BARRIER, self._barriers, b""), self.opposite, source=self.link_local)
        number, reply = self._barriers, Icmpv6Type.ECHO_REPLY
        self.wire.expect(Icmpv6, within=_PATIENCE, type=reply, identifier=_BARRIER, sequence=number)

    def silence(
        self, layer: type[Layer], condition: Callable[[Layer], bool] | None = None, *, within: float = 2.0, **fields: object
    ) -> None:
        """Nothing like this comes for `within` seconds; on a real clock, nothing like this came up to a `barrier`."""
        __tracebackhide__ = True
        if self.wire.network.clock == "real":
            self.barrier()
            within = 0.0
        super(Wire, self.wire).silence(layer, condition, within=within, **fields)
