"""The TCP flows of a user-mode network, taken out of it and put into another: both halves of each, the guest's and the host's.

A friend of `TcpNat`: what is here happens when a network is saved or loaded, and is no part of carrying segments.

A flow moves if its handshake is done, no urgent data is under way, the host can take its connection out of the stream, and the
queues of all flows fit into 128 MiB. One that does not is reset on the host's side here, and on the guest's by the network that the
state is loaded into. A flow in TIME-WAIT is over: it is closed in good order and forgotten.
"""

from __future__ import annotations

from typing import Final

from netemu.errors import HostError, LocalError
from netemu.stack.tcp import State
from netemu.stack.tcp.snapshot import MOVABLE, is_urgent, reset_numbers, restore, snapshot
from netemu.user.snapshot import ConnectionSnapshot, LostConnection
from netemu.user.tcp import TcpFlow, TcpNat
from netemu.wire.tcp import ACK, RST, Tcp

__all__ = ["load_connection", "reset_connection", "save_connections"]

_QUEUES: Final = 1 << 27  # octets
_OVER: Final = frozenset({State.TIME_WAIT, State.CLOSED})


def save_connections(nat: TcpNat, now: int) -> tuple[tuple[ConnectionSnapshot, ...], tuple[LostConnection, ...]]:
    """Every flow of `nat`, which has none then: those that move, and those that are lost."""
    moved: list[ConnectionSnapshot] = []
    lost: list[LostConnection] = []
    room = _QUEUES
    for flow in nat.drain():
        if flow.connection.state in _OVER:
            flow.stream.close()
            continue
        try:
            moved.append(_save(nat, flow, room, now))
        except (HostError, LocalError) as error:
            flow.stream.abort()
            lost.append(_lost(flow, str(error)))
        else:
            room -= len(moved[-1].stream.received) + len(moved[-1].stream.taken)
    return tuple(moved), tuple(lost)


def load_connection(nat: TcpNat, state: ConnectionSnapshot, now: int) -> TcpFlow:
    """Let `nat` go on with a connection; `HostError` if the host cannot."""
    flow = nat.adopt(state.guest, state.remote, nat.realm.host.restore_stream(state.stream), now)
    nat.realm.visitors.seen_as(state.remote, state.guest.address)  # a peer that was shown as it is has to be again
    flow.opened = now - state.age
    restore(flow.connection, state.connection, now)
    return flow


def reset_connection(nat: TcpNat, lost: LostConnection, now: int) -> None:
    """Tell the guest that its connection is gone."""
    guest, remote = lost.guest, lost.remote
    nat.send(guest, remote, Tcp(remote.port, guest.port, lost.sequence, lost.acknowledgment, RST | ACK, 0), now)


def _lost(flow: TcpFlow, reason: str) -> LostConnection:
    sequence, acknowledgment = reset_numbers(flow.connection)
    return LostConnection(guest=flow.guest, remote=flow.remote, sequence=sequence, acknowledgment=acknowledgment, reason=reason)


def _save(nat: TcpNat, flow: TcpFlow, room: int, now: int) -> ConnectionSnapshot:
    if flow.asked is not None or flow.connection.state not in MOVABLE:
        raise LocalError("its handshake was not done")
    if is_urgent(flow.connection) or flow.stream.urgent:
        raise LocalError("urgent data was under way")
    if flow.stream.available() + flow.stream.undelivered() > room:
        raise LocalError(f"the queues of all connections together have more than {_QUEUES} octets")
    connection = snapshot(flow.connection, now)
    stream = nat.realm.host.park_stream(flow.stream)
    return ConnectionSnapshot(
        guest=flow.guest,
        remote=flow.remote,
        age=now - flow.opened,
        connection=connection,
        stream=stream,
    )
