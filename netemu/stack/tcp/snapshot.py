"""What a connection remembers, as a value: taken from one `TcpConnection`, it makes another go on where that one was.

`snapshot` reads the variables of every part, `restore` writes them into a connection that was not opened, whose source has the same
unacknowledged octets and whose sink stands where the old one did. Only the connection's own state moves: configuration, source,
sink and endpoints are the caller's.

Sequence numbers are the engine's whole numbers. Times are nanoseconds before the moment of the snapshot, so the clocks need not
agree; no time passes between the two. TSval goes on from where it was (RFC 7323 5.4).

What was outstanding is presumed lost, as after a timeout, for the path is another one: it is sent again at once, in slow start. An
ACK goes with it, which tells the peer that somebody is there. SACKs about it are forgotten (RFC 2018 8 lets a sender). Octets that
arrived out of order are kept: they were reported, so the peer may have.

Not moved: a handshake, TIME-WAIT, urgent data that is under way (`is_urgent`), the counters, answers that were not sent yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from netemu.errors import LocalError
from netemu.stack.tcp.config import MAXIMUM_WINDOW_SCALE, MINIMUM_MSS
from netemu.stack.tcp.connection import TcpConnection
from netemu.stack.tcp.negotiation import Agreement
from netemu.stack.tcp.reassembly import Reassembly
from netemu.stack.tcp.receiver import Receiver
from netemu.stack.tcp.rtt import CLOCK_GRANULARITY_NS
from netemu.stack.tcp.sender import Sender
from netemu.stack.tcp.sequence import wrap
from netemu.stack.tcp.state import State

__all__ = ["MOVABLE", "ReceiveSnapshot", "SendSnapshot", "TcpSnapshot", "is_urgent", "reset_numbers", "restore", "snapshot"]

MOVABLE: Final = frozenset({State.ESTABLISHED, State.FIN_WAIT_1, State.FIN_WAIT_2, State.CLOSE_WAIT, State.CLOSING, State.LAST_ACK})
"""The states in which a connection has something to go on with."""

_FIN_SENT: Final = MOVABLE - {State.ESTABLISHED, State.CLOSE_WAIT}
_FIN_RECEIVED: Final = frozenset({State.CLOSE_WAIT, State.CLOSING, State.LAST_ACK})
_WINDOW: Final = 1 << 30  # RFC 7323 2.3: the largest
_LONGEST_RTT: Final = 1 << 40  # nanoseconds: 18 minutes, more than any sample between two SYNs' lifetimes


@dataclass(frozen=True, slots=True, kw_only=True)
class SendSnapshot:
    """The variables of RFC 9293 3.3.1 that send. `data` is the number of the source's offset 0, `fin` that of our FIN if known."""

    iss: int
    una: int
    nxt: int
    max: int
    wnd: int
    max_wnd: int
    wl1: int
    wl2: int
    data: int
    fin: int | None
    fin_sent: bool
    congestion_window: int
    slow_start_threshold: int
    smoothed_rtt: int | None
    rtt_variation: int

    def __post_init__(self) -> None:
        _check("send", self.iss < self.data and self.data <= self.una <= self.data + 1)
        _check("send", self.una <= self.nxt <= self.max <= self.una + _WINDOW + 2)
        _check("send", 0 <= self.wnd <= self.max_wnd <= _WINDOW)
        _check("send", self.fin is None or self.data <= self.fin <= self.data + _WINDOW)
        _check("send", self.una == self.data or (self.fin_sent and self.una == (self.fin or 0) + 1))
        _check("send", self.fin_sent == (self.fin is not None and self.nxt == self.fin + 1))
        _check("send", min(self.congestion_window, self.slow_start_threshold) > 0)
        _check("send", 0 <= self.rtt_variation <= _LONGEST_RTT and 0 <= (self.smoothed_rtt or 0) <= _LONGEST_RTT)

    @property
    def outstanding(self) -> int:
        """Octets of the source that were sent and not acknowledged."""
        return (self.nxt if self.fin is None else min(self.nxt, self.fin)) - self.data


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveSnapshot:
    """The variables that receive. `held` are octets that arrived and were not delivered, each piece with its number.

    `recent_age`: how long ago `recent`, TS.Recent, came.
    """

    irs: int
    nxt: int
    edge: int
    fin: int | None
    urgent: int | None
    recent: int
    recent_age: int
    acknowledged_to: int
    held: tuple[tuple[int, bytes], ...]

    def __post_init__(self) -> None:
        _check("receive", self.irs < self.acknowledged_to <= self.nxt <= self.edge <= self.nxt + _WINDOW)
        _check("receive", self.fin is None or self.irs < self.fin <= self.edge)
        _check("receive", 0 <= self.recent < 1 << 32 and self.recent_age >= 0 and (self.urgent or 0) >= 0)
        reached = self.nxt
        for number, octets in self.held:
            _check("receive", number >= reached and bool(octets))
            reached = number + len(octets)
        _check("receive", reached <= self.edge)

    @property
    def finished(self) -> bool:
        """The sink was told of the peer's FIN."""
        return self.fin is not None and self.nxt > self.fin


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpSnapshot:
    """A connection. `timestamp` is the TSval of the moment, `age` how long ago it was opened. `LocalError`: it cannot be one."""

    state: State
    agreement: Agreement
    timestamp: int
    age: int
    send: SendSnapshot
    receive: ReceiveSnapshot

    def __post_init__(self) -> None:
        agreement = self.agreement
        _check("state", self.state in MOVABLE)
        _check("state", self.send.fin_sent == (self.state in _FIN_SENT))
        _check("state", self.receive.finished == (self.state in _FIN_RECEIVED))
        _check("options", MINIMUM_MSS <= agreement.send_mss <= 0xFFFF)
        _check("options", min(agreement.send_shift, agreement.receive_shift) >= 0)
        _check("options", max(agreement.send_shift, agreement.receive_shift) <= MAXIMUM_WINDOW_SCALE)
        _check("options", 0 <= self.timestamp < 1 << 32 and self.age >= 0)


def is_urgent(connection: TcpConnection) -> bool:
    """Is urgent data under way, in one direction or the other?"""
    sender, receiver = connection._tcb.sender, connection._tcb.receiver
    return sender.urgent > sender.una or (receiver.urgent is not None and receiver.irs + 1 + receiver.urgent > receiver.nxt)


def snapshot(connection: TcpConnection, now: int) -> TcpSnapshot:
    """What `connection` remembers; `LocalError` if it is in a state that cannot move."""
    tcb = connection._tcb
    sender, receiver = tcb.sender, tcb.receiver
    return TcpSnapshot(
        state=tcb.state,
        agreement=tcb.agreement,
        timestamp=tcb.timestamp(now),
        age=now - (tcb.opened_at or 0),
        send=SendSnapshot(
            iss=sender.iss,
            una=sender.una,
            nxt=sender.nxt,
            max=sender.max,
            wnd=sender.wnd,
            max_wnd=sender.max_wnd,
            wl1=sender._wl1,
            wl2=sender._wl2,
            data=sender._data,
            fin=sender._fin,
            fin_sent=sender.fin_sent,
            congestion_window=sender.congestion.window,
            slow_start_threshold=sender.congestion.threshold,
            smoothed_rtt=sender.rtt.smoothed,
            rtt_variation=sender.rtt.variation,
        ),
        receive=ReceiveSnapshot(
            irs=receiver.irs,
            nxt=receiver.nxt,
            edge=receiver.edge,
            fin=receiver.fin,
            urgent=receiver.urgent,
            recent=receiver.recent,
            recent_age=now - receiver._recent_at,
            acknowledged_to=receiver._acknowledged_to,
            held=_held(receiver),
        ),
    )


def restore(connection: TcpConnection, state: TcpSnapshot, now: int) -> None:
    """Let `connection`, which must be new, go on from `state`."""
    tcb = connection._tcb
    tcb.state = state.state
    tcb.opened_at = now - state.age
    tcb.agreement = state.agreement
    tcb._timestamp_offset = wrap(state.timestamp - now // CLOCK_GRANULARITY_NS)
    _restore_receiver(tcb.receiver, state.receive, state.agreement, now)
    _restore_sender(tcb.sender, state.send, state.agreement, now)
    tcb.keepalive.heard(now)


def _restore_sender(sender: Sender, state: SendSnapshot, agreement: Agreement, now: int) -> None:
    sender.iss, sender.una, sender.nxt, sender.max = state.iss, state.una, state.nxt, state.max
    sender.urgent = state.una
    sender.wnd, sender.max_wnd = state.wnd, state.max_wnd
    sender._wl1, sender._wl2 = state.wl1, state.wl2
    sender._data, sender._fin, sender.fin_sent = state.data, state.fin, state.fin_sent
    sender._recovery_point = sender.iss
    sender._last_sent = now
    sender.shift = agreement.send_shift
    sender._agree(agreement, syn_lost=False)
    sender.congestion.window = max(state.congestion_window, sender.smss)
    sender.congestion.threshold = max(state.slow_start_threshold, 2 * sender.smss)
    if state.smoothed_rtt is not None:
        sender.rtt.sample(state.smoothed_rtt)
        sender.rtt.variation = state.rtt_variation
    if sender.outstanding:
        sender._retransmission_timeout()
        sender.retransmit_at = now + sender.rtt.rto


def _restore_receiver(receiver: Receiver, state: ReceiveSnapshot, agreement: Agreement, now: int) -> None:
    receiver.irs, receiver.nxt, receiver.edge, receiver.fin = state.irs, state.nxt, state.edge, state.fin
    receiver.urgent = state.urgent
    receiver.recent, receiver._recent_at = state.recent, now - state.recent_age
    receiver._acknowledged_to = state.acknowledged_to
    receiver.shift = agreement.receive_shift
    receiver.sink_opened()
    receiver.edge = state.edge  # what was announced stays, what is added is announced by the ACK
    if state.held:
        receiver._reassembly = Reassembly()
        for number, octets in state.held:
            receiver._reassembly.insert(state.nxt, number, memoryview(octets))
    receiver.ack_now = True


def _held(receiver: Receiver) -> tuple[tuple[int, bytes], ...]:
    reassembly = receiver._reassembly
    return tuple((start, reassembly.octets(start, end)) for start, end in reassembly.ranges())


def _check(what: str, holds: bool) -> None:
    if not holds:
        raise LocalError(
            f"the {what} variables of a TCP connection contradict each other; only what snapshot() gave can be restored"
        )


def reset_numbers(connection: TcpConnection) -> tuple[int, int]:
    """The 32-bit sequence and acknowledgment numbers of a RST that the peer must believe, whatever the state."""
    sender, receiver = connection._tcb.sender, connection._tcb.receiver
    return wrap(sender.nxt), wrap(receiver.nxt)
