"""Guests find servers in their network that are not there: guestfwd (`netemu.user.guest_forward` has the grammar).

The network answers ARP and neighbour solicitations for the server's address, takes guests' connections to its port, and joins each
to a stream of the host's, or to a Python callable, which gets the other end as a `StreamSocket`. A restricted network keeps its
servers, which is what they are for there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from netemu.errors import LocalError
from netemu.io.pipe import PipeStream
from netemu.net.sockets import StreamSocket
from netemu.user.guest_forward import GuestForward, parse_guestfwd, tcp_target
from netemu.user.realm import Realm
from netemu.user.tcp import TcpNat
from netemu.wire.address import Endpoint

__all__ = ["GuestForwards"]


class GuestForwards:
    """The servers of one network. They are served by `tcp`."""

    def __init__(self, realm: Realm, tcp: TcpNat) -> None:
        self._realm = realm
        self._tcp = tcp
        self._forwards: list[GuestForward] = []

    @property
    def forwards(self) -> tuple[GuestForward, ...]:
        return tuple(self._forwards)

    def add(self, rule: str) -> GuestForward:
        """Begin to serve; raises `LocalError` for a rule that is none, or a server that is there already."""
        forward = self._parse(rule)
        return self._add(forward, self._opener(rule, forward))

    def serve(self, rule: str, handler: Callable[[StreamSocket], None]) -> GuestForward:
        """Begin to give each connection to `[tcp]:[server]:port` to `handler`, which must not block; raises `LocalError`."""
        forward = self._parse(rule, callable_target=True)
        return self._add(forward, partial(self._hand_over, forward.server, handler))

    def remove(self, forward: GuestForward) -> None:
        """Serve no more; connections that are open go on. Raises `LocalError` if there is no such server."""
        if forward not in self._forwards:
            present = ", ".join(map(str, self._forwards)) or "none"
            raise LocalError(f"guestfwd {forward} is not there, so it cannot be removed; there are: {present}")
        self._forwards.remove(forward)
        del self._tcp.servers[forward.server]

    def _parse(self, rule: str, *, callable_target: bool = False) -> GuestForward:
        options = self._realm.options
        return parse_guestfwd(rule, options.net, options.ipv6_net, callable_target=callable_target)

    def _add(self, forward: GuestForward, opener: Callable[[], StreamSocket]) -> GuestForward:
        options, server = self._realm.options, forward.server
        taken = (options.host, options.dns, options.dhcpstart, options.ipv6_host, options.ipv6_dns)
        if server.address.version not in options.places:
            raise LocalError(f"guestfwd {forward}: the network does not speak the family of {server.address}")
        if server.address in taken:
            raise LocalError(f"guestfwd {forward}: {server.address} has another use in this network, so give another address")
        if server in self._tcp.servers:
            raise LocalError(f"guestfwd {forward}: {server} is served already, so give another address or port")
        self._tcp.servers[server] = opener
        self._realm.side(server.address).add_own(server.address)
        self._forwards.append(forward)
        return forward

    def _opener(self, rule: str, forward: GuestForward) -> Callable[[], StreamSocket]:
        host, target = self._realm.host, forward.target
        remote = tcp_target(rule, target)
        if remote is not None:
            return partial(host.open_stream, remote)
        kind, _, what = target.partition(":")
        return partial(host.open_command if kind == "cmd" else host.open_path_stream, what)

    def _hand_over(self, server: Endpoint, handler: Callable[[StreamSocket], None]) -> StreamSocket:
        loop = self._realm.host.loop
        near, far = PipeStream(loop, server, server), PipeStream(loop, server, server)
        near.join(far)
        loop.call_soon(partial(handler, far))
        return near
