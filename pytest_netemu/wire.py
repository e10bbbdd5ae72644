"""The wire: a station in the network's place, for checks of a guest's stack. It is router, servers and attacker in one.

    wire = netemu_wire.up()                                # the guest has 10.0.2.15/24 and this router
    wire.send_icmp(Icmpv4.echo_request(1, 1, b"data"))
    wire.expect(Icmpv4, type=IcmpType.ECHO_REPLY, sequence=1)

What a guest does by itself is begun with its own verbs, and they block until it is done; what it needs meanwhile is given by
`answer`, from inside the loop:

    wire.answer(Icmpv4, lambda packet: ..., type=IcmpType.ECHO_REQUEST)
    assert wire.guest.ping(wire.address).ok

Silence is a moment's matter on a real clock. A stack answers frame by frame, so when an echo request that was sent last is
answered, the answers to all before it have come (`barrier`). What a stack would do later by itself is seen in virtual time only.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from typing import Final, Self

from netemu.guest.protocol import Guest
from netemu.network import Network
from netemu.wire.address import BROADCAST_MAC, MacAddress
from netemu.wire.icmpv4 import IcmpType, Icmpv4
from pytest_netemu.packet import Layer, Packet
from pytest_netemu.station import LIMITED_BROADCAST, Station

__all__ = ["Wire"]

_MAC: Final = MacAddress("52:54:00:7e:57:02")
_ROUTER: Final = IPv4Address("10.0.2.2")
_GUEST: Final = IPv4Address("10.0.2.15")
_BARRIER: Final = 0xBA44  # the identifier of a barrier's echo requests
_PATIENCE: Final = 20.0  # seconds that a real guest may take for what it does at once


class Wire(Station):
    """The network of `guest`, which is joined to `port`. `address` is the router's, `opposite` the guest's."""

    def __init__(self, network: Network, make: Callable[[Station], Guest]) -> None:
        super().__init__(network, "wire", _MAC, _ROUTER, _GUEST)
        self.net = IPv4Network((_GUEST, 24), strict=False)
        self._barriers = 0
        self.guest = make(self)

    def up(self) -> Self:
        """Give the guest its address and router, and be ready for its frames; gives the wire back."""
        self.guest.configure(self.opposite, self.net.prefixlen, self.address)
        self.barrier()
        self.inbox.clear()
        return self

    def next_hop(self, destination: IPv4Address) -> MacAddress:
        """The guest, or everybody on its network."""
        return BROADCAST_MAC if destination in (LIMITED_BROADCAST, self.net.broadcast_address) else self.guest.mac

    def barrier(self) -> None:
        """Return when the guest has answered what was sent so far, as far as it answers at once."""
        __tracebackhide__ = True
        self._barriers += 1
        self.send_icmp(Icmpv4.echo_request(_BARRIER, self._barriers, b""))
        self.expect(Icmpv4, within=_PATIENCE, type=IcmpType.ECHO_REPLY, identifier=_BARRIER, sequence=self._barriers)

    def expect(
        self, layer: type[Layer], condition: Callable[[Layer], bool] | None = None, *, within: float = 1.0, **fields: object
    ) -> Packet:
        """As a station's; a guest on a loaded machine may take longer."""
        __tracebackhide__ = True
        patience = _PATIENCE if self.network.clock == "real" else within
        return super().expect(layer, condition, within=max(within, patience), **fields)

    def silence(
        self, layer: type[Layer], condition: Callable[[Layer], bool] | None = None, *, within: float = 2.0, **fields: object
    ) -> None:
        """Nothing like this comes for `within` seconds; on a real clock, nothing like this came up to a `barrier`."""
        __tracebackhide__ = True
        if self.network.clock == "real":
            self.barrier()
            within = 0.0
        super().silence(layer, condition, within=within, **fields)
