"""A user-mode network from its parts to a value and back (`netemu.user.snapshot` says what moves).

Saving ends the network: connections are taken out of their streams, which say nothing to their peers, and every other socket is
closed, so that the ports are free for the network that goes on.

Loading asks the host for one thing after the other: forwarded ports first, for connections came through them, then connections,
mappings, ping sessions. What the host refuses is lost, and named; the rest goes on.
"""

from __future__ import annotations

from dataclasses import dataclass

from netemu.errors import HostError
from netemu.user.dhcp import DhcpServer
from netemu.user.dhcpv6 import Dhcpv6Server
from netemu.user.flow import Flow
from netemu.user.hostfwd import HostForwards
from netemu.user.icmp import EchoService
from netemu.user.lan import Lan
from netemu.user.lan6 import Lan6
from netemu.user.options import UserOptions
from netemu.user.snapshot import ConnectionSnapshot, Lost, LostConnection, NetworkSnapshot, Restored
from netemu.user.state import visible_options
from netemu.user.tcp import TcpNat
from netemu.user.tcp_state import load_connection, reset_connection, save_connections
from netemu.user.udp import UdpNat
from netemu.wire.address import Endpoint

__all__ = ["Mover"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mover:
    """The parts of one network that have a state."""

    options: UserOptions
    lan: Lan
    lan6: Lan6
    dhcp: DhcpServer
    dhcp6: Dhcpv6Server
    tcp: TcpNat
    udp: UdpNat
    forwards: HostForwards
    echo: EchoService

    def save(self, now: int) -> NetworkSnapshot:
        """The network as it is; its connections are out of it then."""
        identification, neighbours = self.lan.snapshot(now)
        router, neighbours6 = self.lan6.snapshot(now)
        connections, lost = save_connections(self.tcp, now)
        return NetworkSnapshot(
            options=visible_options(self.options),
            identification=identification,
            router=router,
            leases=self.dhcp.leases.snapshot(now),
            leases6=self.dhcp6.leases.snapshot(now),
            neighbours=neighbours,
            neighbours6=neighbours6,
            forwards=self.forwards.forwards,
            peers=self.forwards.snapshot(now),
            mappings=self.udp.snapshot(now),
            sessions=self.echo.snapshot(now),
            connections=connections,
            lost=lost,
        )

    def load(self, state: NetworkSnapshot, now: int) -> Restored:
        """Let the network, which has no state yet, go on from `state`."""
        self.dhcp.leases.restore(state.leases, now)
        self.dhcp6.leases.restore(state.leases6, now)
        self.lan.restore(state.identification, state.neighbours, now)
        self.lan6.restore(state.router, state.neighbours6, now)
        lost = [Lost("hostfwd", each.guest, each.host, str(error)) for each, error in self.forwards.restore(state.forwards)]
        for each in state.connections:
            try:
                load_connection(self.tcp, each, now)
            except HostError as error:
                lost.append(self._reset(_cut_off(each, str(error)), now))
        lost += [self._reset(each, now) for each in state.lost]
        for mapping in state.mappings:
            try:
                self.udp.restore(mapping, now)
            except HostError as error:
                lost.append(Lost("udp", mapping.guest, None, str(error)))
        for peer in state.peers:
            try:
                self.forwards.restore_peer(peer, now)
            except HostError as error:
                lost.append(Lost("udp", peer.forward.guest, peer.visible, str(error)))
        for session in state.sessions:
            try:
                self.echo.restore(session, now)
            except HostError as error:
                lost.append(Lost("icmp", Endpoint(session.guest, session.identifier), None, str(error)))
        return Restored(self._flows(), tuple(lost))

    def _reset(self, lost: LostConnection, now: int) -> Lost:
        reset_connection(self.tcp, lost, now)
        return Lost("tcp", lost.guest, lost.remote, lost.reason)

    def _flows(self) -> tuple[Flow, ...]:
        return tuple(flow for part in (self.tcp, self.udp, self.forwards, self.echo) for flow in part.flows())


def _cut_off(state: ConnectionSnapshot, reason: str) -> LostConnection:
    connection = state.connection
    numbers = {"sequence": connection.send.nxt & 0xFFFFFFFF, "acknowledgment": connection.receive.nxt & 0xFFFFFFFF}
    return LostConnection(guest=state.guest, remote=state.remote, reason=reason, **numbers)
