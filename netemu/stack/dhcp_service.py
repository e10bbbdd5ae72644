"""Runs a DHCP client on an interface: its messages become datagrams, its claims ARP, its leases configuration.

The service is a part of `endpoint.Ipv4Stack`, which gives it what comes to UDP port 68 and every ARP packet, and lets it work in
each `transmit`. It is where the two state machines meet: `DhcpClient` asks for a claim, `AddressClaim` answers, and goes on
defending the address for as long as the lease is in use (RFC 5227 2.4).
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Protocol

from netemu.stack.conflict import QUICK, AddressClaim, ClaimState, ClaimTiming
from netemu.stack.dhcp_client import Bound, Claim, DhcpClient, DhcpState, Lost, SendDhcp
from netemu.stack.dhcp_messages import DhcpClientConfig
from netemu.stack.lease import Lease
from netemu.wire.address import MacAddress
from netemu.wire.arp import Arp
from netemu.wire.dhcpv4 import CLIENT_PORT, SERVER_PORT
from netemu.wire.ipv4 import IPv4
from netemu.wire.ipv4 import Protocol as IpProtocol
from netemu.wire.udp import Udp

__all__ = ["DhcpInterface", "DhcpService"]


class DhcpInterface(Protocol):
    """What the service does to its interface."""

    mac: MacAddress

    def send_now(self, packet: IPv4, now: int) -> None:
        """Send a datagram with the addresses it has."""
        ...

    def broadcast_arp(self, arp: Arp) -> None: ...
    def configure_lease(self, lease: Lease) -> None: ...
    def deconfigure(self) -> None: ...


class DhcpService:
    """A client and the claim of its address. Start, renew and release it through `client`, then wake the stack."""

    def __init__(
        self,
        interface: DhcpInterface,
        getrandbits: Callable[[int], int],
        config: DhcpClientConfig | None = None,
        timing: ClaimTiming = QUICK,
    ) -> None:
        self.client = DhcpClient(interface.mac, getrandbits, config)
        self._interface = interface
        self._getrandbits = getrandbits
        self._timing = timing
        self._claim: AddressClaim | None = None

    def receive(self, payload: bytes, now: int) -> None:
        """A datagram for UDP port 68."""
        self.client.receive(payload, now)
        self.work(now)

    def receive_arp(self, arp: Arp, now: int) -> None:
        """Every ARP packet of the interface."""
        if self._claim is not None:
            self._claim.receive(arp, now)
            self.work(now)

    def deadline(self) -> int | None:
        moments = (self.client.deadline(), self._claim.deadline() if self._claim else None)
        return min((moment for moment in moments if moment is not None), default=None)

    def expire(self, now: int) -> None:
        """Run the timers that are due."""
        self.client.expire(now)
        if self._claim is not None:
            self._claim.expire(now)
        self.work(now)

    def work(self, now: int) -> None:
        """Do what the client and the claim want done, until neither wants more; call it after using `client`."""
        while True:
            self._tell_client(now)
            events = self.client.events()
            if not events:
                break
            for event in events:
                match event:
                    case SendDhcp(message, source, destination):
                        self._send(message.pack(), source, destination, now)
                    case Claim(lease):
                        mac = self._interface.mac
                        self._claim = AddressClaim(mac, lease.address, self._getrandbits, now, self._timing)
                        self._claim.expire(now)
                    case Bound(lease):
                        self._interface.configure_lease(lease)
                    case Lost():
                        self._claim = None
                        self._interface.deconfigure()
        if self._claim is not None:
            for arp in self._claim.transmit():
                self._interface.broadcast_arp(arp)

    def _tell_client(self, now: int) -> None:
        claim = self._claim
        if claim is None:
            return
        if claim.state is ClaimState.LOST:
            self._claim = None
            self.client.conflict(now)
        elif claim.usable and self.client.state is DhcpState.CHECKING:
            self.client.claimed(now)

    def _send(self, payload: bytes, source: IPv4Address, destination: IPv4Address, now: int) -> None:
        datagram = Udp(CLIENT_PORT, SERVER_PORT, payload).pack(source, destination)
        self._interface.send_now(IPv4(source, destination, IpProtocol.UDP, datagram), now)
