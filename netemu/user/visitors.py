"""As what guests see the peers of forwarded ports (the option `hostfwd-source`).

`auto`: as the peer is, if a guest could answer it. One that came over the host's loopback, or is of the other family, is the
gateway; so is one with an address of the guests' own link, for whom a guest would look beside itself.

`peer`: as the peer is, over loopback and on the guests' link too. The way back leads through the network then: it answers ARP
and neighbour solicitations for that address, and takes what is sent to it. At most 256 addresses are shown so, and none that a
guest may lease or is forwarded to. Who is not shown is the gateway, and so is a peer of the other family or of a UNIX socket.
Linux takes a packet from 127.0.0.1 only with the sysctl `route_localnet`, and from ::1 never.

`gateway`: every peer is the gateway, each on a port of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from netemu.user.options import UserOptions
from netemu.user.side import Side
from netemu.wire.address import Endpoint, Family, IPAddress

__all__ = ["Visitors"]

_SHOWN: Final = 256


class Visitors:
    """`to_guest` is what a guest calls a peer in a conversation of a family."""

    def __init__(
        self, options: UserOptions, sides: Mapping[Family, Side], to_guest: Callable[[Endpoint, Family], Endpoint]
    ) -> None:
        self._mode = options.hostfwd_source
        self._sides = sides
        self._to_guest = to_guest
        self._shown = 0
        self._guests = frozenset({*options.pool, *options.pool6, *(address for _, address in options.static_lease)})

    def seen_as(self, peer: Endpoint, guest: IPAddress) -> Endpoint:
        """What `guest` calls `peer`; its port is 0 where any will do."""
        if self._mode == "gateway":
            return Endpoint(self._sides[guest.version].gateway, peer.port)
        seen = self._to_guest(peer, guest.version)
        return peer if self._mode == "peer" and seen != peer and self._is_shown(peer, guest) else seen

    def _is_shown(self, peer: Endpoint, guest: IPAddress) -> bool:
        address, side = peer.address, self._sides[guest.version]
        if address.version != guest.version or not peer.port or address == guest or address in self._guests:
            return False
        if not side.is_own(address):
            if self._shown >= _SHOWN:
                return False
            self._shown += 1
            side.add_own(address)
        return True
