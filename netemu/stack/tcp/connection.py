"""One TCP connection (RFC 9293), sans-IO: segments and the time go in, segments and the next deadline come out.

Theory of operation
-------------------
The caller owns the clock and the wire. It opens the connection, hands it every checked segment that arrives
(`receive`), tells it when the application has written or read (`source_ready`, `sink_ready`), runs timers that are due
(`expire`, not later than `deadline`), and after any of these puts what `transmit` returns on the wire. There are no
callbacks and no events: `state` and `error` say where the connection is, and the sink hears of data and of the peer's
FIN. Time is in integer nanoseconds and never goes back. Nothing that a peer sends raises; what is wrong is counted.

The parts, each in a module of its own:

    Source ->  Sender: Scoreboard, CongestionControl, RttEstimator   which octets go next
    Sink   <-  Receiver: Reassembly                                  what is in order, how many octets may come
               Tcb                                                   both, the state, and how a segment is built
               arrival                                               a segment through the checks of RFC 9293 3.10.7
               prediction                                            the segment that was to be expected, without them
               TcpConnection                                         the user's calls, timers, what leaves

Sequence numbers are whole numbers inside, which never wrap (`sequence`); 32 bits in a `Tcp`.

A FIN is sent, and the state left for FIN-WAIT-1 or LAST-ACK, together with the source's last octet; so CLOSE with data
still queued stays in ESTABLISHED (or CLOSE-WAIT) longer than in the RFC, which cannot be seen from the other end.

Documents
---------
RFC 9293; RFC 5681, 6582 (its slow-but-steady timer), 6675 congestion control and loss recovery; RFC 3042 limited
transmit; RFC 3465 byte counting; RFC 6298 retransmission timer; RFC 6928 initial window; RFC 7323 window scale,
timestamps, PAWS; RFC 2018 SACK; RFC 5961 blind attacks; RFC 6191 reuse from TIME-WAIT.

Deviations: a pure ACK or a FIN on the window's right edge is acceptable (`Receiver.acceptable`); a SYN in SYN-RECEIVED
gets a challenge ACK after a passive open, too, as RFC 5961 has it for the later states.

Not done: LISTEN (a stack keeps its listeners and makes a connection from each SYN), choosing initial sequence numbers
(RFC 6528: the caller's), IP options, security compartments, ECN, TCP Fast Open, larger segments when a path that
was narrow is wide again, the advice to IP at R1.

Counters
--------
answers_withheld, bad_acks, bad_segments, challenge_acks, duplicate_acks, duplicate_text, fast_retransmits,
keepalive_probes, missing_timestamps, out_of_order, path_mss_lowered, paws_rejected, retransmissions, sink_refusals, timeouts,
unacceptable, unacceptable_answered, unreachable, window_probes.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Final, TypeAlias

from netemu.errors import LocalError
from netemu.stack.tcp.arrival import segment_arrives
from netemu.stack.tcp.buffers import Sink, Source
from netemu.stack.tcp.config import MINIMUM_MSS, TcpConfig
from netemu.stack.tcp.prediction import take_predicted
from netemu.stack.tcp.sequence import wrap
from netemu.stack.tcp.state import HANDSHAKE, RECEIVES, RESET_IS_NO_ERROR, SENDS, State
from netemu.stack.tcp.tcb import Tcb
from netemu.stack.tcp.unknown import reply_to_unknown
from netemu.wire.address import Endpoint
from netemu.wire.tcp import ACK, FIN, PSH, RST, SYN, URG, Tcp

__all__ = ["PlainSegment", "TcpConnection"]

_POINTER_MAXIMUM: Final = 0xFFFF  # an urgent pointer that is farther ahead comes nearer with each segment
_AFTER_FIN_SENT: Final = {State.ESTABLISHED: State.FIN_WAIT_1, State.CLOSE_WAIT: State.LAST_ACK}

PlainSegment: TypeAlias = tuple[int, int, int, int, tuple[int, int] | None, bytes | memoryview]
"""Sequence number, acknowledgment, flags and window as on the wire, the timestamps if there are any, and the payload."""


class TcpConnection:
    """One end of a connection, in CLOSED until `open_active` or `open_passive` is called, once.

    `initial_sequence` (RFC 6528) and `timestamp_offset` (RFC 7323 5.4), 32 bits each, are chosen by the caller. `scratch` is memory
    for the payload of one segment that is sent, perhaps shared by many connections: see `emit`.
    """

    __slots__ = (
        "_tcb",
        "config",
        "local",
        "remote",
    )

    def __init__(
        self,
        config: TcpConfig,
        local: Endpoint,
        remote: Endpoint,
        source: Source,
        sink: Sink,
        initial_sequence: int,
        timestamp_offset: int = 0,
        scratch: memoryview | None = None,
    ) -> None:
        self.config = config
        self.local = local
        self.remote = remote
        self._tcb = Tcb(config, local, remote, source, sink, initial_sequence, timestamp_offset, scratch)

    def __repr__(self) -> str:
        return f"<TcpConnection {self.local} {self.remote} {self.state.value}>"

    # What can be seen

    @property
    def state(self) -> State:
        return self._tcb.state

    @property
    def error(self) -> int:
        """Why the connection is CLOSED: ECONNREFUSED, ECONNRESET, ETIMEDOUT, what `unreachable` was given, or 0."""
        return self._tcb.error

    @property
    def counters(self) -> Counter[str]:
        """What happened, by the names in this module's docstring."""
        return self._tcb.counters

    @property
    def send_mss(self) -> int:
        """The most payload and options of one frame that is sent: the smaller of the peer's MSS and our own."""
        return self._tcb.agreement.send_mss

    @property
    def smoothed_rtt_ns(self) -> int | None:
        """The variable SRTT of RFC 6298, None before the first sample. From timestamps it is in whole milliseconds."""
        return self._tcb.sender.rtt.smoothed

    @property
    def retransmission_timeout_ns(self) -> int:
        """The variable RTO of RFC 6298, with its backoff."""
        return self._tcb.sender.rtt.rto

    @property
    def congestion_window(self) -> int:
        """The variable cwnd of RFC 5681, octets."""
        return self._tcb.sender.congestion.window

    @property
    def slow_start_threshold(self) -> int:
        """The variable ssthresh of RFC 5681, octets; arbitrarily high before the first loss."""
        return self._tcb.sender.congestion.threshold

    @property
    def in_flight(self) -> int:
        """Sequence numbers sent and not acknowledged."""
        return self._tcb.sender.outstanding

    @property
    def send_window(self) -> int:
        """The variable SND.WND: what the peer last announced, octets."""
        return self._tcb.sender.wnd

    @property
    def held_out_of_order(self) -> int:
        """Octets received that cannot be delivered yet."""
        return self._tcb.receiver.held

    @property
    def octets_received(self) -> int:
        """Octets of the peer's stream that the sink has taken."""
        return self._tcb.receiver.delivered

    @property
    def octets_acknowledged(self) -> int:
        """Octets of the source that the peer has acknowledged."""
        return self._tcb.sender.acknowledged_octets

    @property
    def urgent(self) -> int | None:
        """Where the peer's urgent data ends, as an offset in the received stream; the data itself is in line."""
        return self._tcb.receiver.urgent

    # What the user calls (RFC 9293 3.10.1 to 3.10.5)

    def open_active(self, now: int) -> None:
        """OPEN, active: a SYN is sent next."""
        self._open(State.SYN_SENT, now)
        self._tcb.active = True
        self._tcb.syn_due = True

    def open_passive(self, syn: Tcp, now: int, *, defer: bool = False) -> None:
        """A SYN reached a listener (RFC 9293 3.10.7.2). With `defer` the SYN-ACK is held back until `accept`."""
        if syn.flags & (SYN | ACK | RST) != SYN:
            raise LocalError("open_passive needs a SYN without ACK and RST; other segments go to reply_to_unknown")
        self._open(State.SYN_RECEIVED, now)
        self._tcb.synchronize(syn, now)
        self._tcb.deferred = syn if defer else None
        self._tcb.syn_due = not defer

    def accept(self, now: int) -> None:
        """Send the SYN-ACK that `defer` held back; without one, nothing happens."""
        tcb = self._tcb
        if tcb.deferred:
            tcb.deferred = None
            tcb.syn_due = True
            tcb.opened_at = now
            tcb.receiver.sink_opened()

    def source_ready(self, now: int) -> None:
        """The source has more, or has ended. `transmit` asks the source itself, so this is only the usual signal."""

    def urge(self, count: int) -> None:
        """SEND with the URGENT flag: the first `count` octets that the source has are urgent (RFC 9293 3.8.5)."""
        self._tcb.sender.urge(count)

    def sink_ready(self, now: int) -> None:
        """The sink has more room than when it was last asked: what it refused is offered, the window may be updated."""
        if self.state in RECEIVES:
            self._tcb.receiver.sink_ready()
            self._tcb.pass_fin(now)

    def close(self, now: int) -> None:  # noqa: ARG002 - every call takes the time
        """CLOSE: send what the source has now, then FIN; receiving goes on. In SYN-SENT there is nothing to end: CLOSED."""
        if self.state is State.SYN_SENT:
            self._tcb.end(0)
        else:
            self._tcb.sender.end_of_stream()

    def abort(self, now: int) -> None:
        """ABORT: CLOSED at once, with a RST for a peer that may think the connection exists."""
        tcb = self._tcb
        refusal = reply_to_unknown(tcb.deferred) if tcb.deferred else None
        if refusal is not None:  # as if nobody listened (RFC 9293 3.10.7.1)
            tcb.outbox.append(refusal)
        elif self.state not in RESET_IS_NO_ERROR | {State.SYN_SENT, State.CLOSED}:
            tcb.outbox.append(tcb.segment(tcb.sender.nxt, RST | ACK, now))
        tcb.end(tcb.error)

    def unreachable(self, error: int, now: int) -> None:  # noqa: ARG002 - every call takes the time
        """ICMP says that the peer cannot be reached. Fatal only before the peer has answered (RFC 9293 3.9.2.2)."""
        self._tcb.counters["unreachable"] += 1
        if self.state in HANDSHAKE:
            self._tcb.end(error)

    def path_mss_lowered(self, mss: int, sequence: int, now: int) -> None:  # noqa: ARG002 - every call takes the time
        """ICMP says that the path takes no frame of more than `mss` octets of payload and options (RFC 1191, RFC 8201).

        `sequence` is that of the segment that was too long: what cannot be outstanding is not believed (RFC 5927 4.1).
        """
        tcb, mss = self._tcb, max(mss, MINIMUM_MSS)
        believed = tcb.sender.una <= tcb.sender.unwrap(sequence) < tcb.sender.nxt
        if believed and self.state not in HANDSHAKE and mss < tcb.agreement.send_mss:
            tcb.counters["path_mss_lowered"] += 1
            tcb.agreement = replace(tcb.agreement, send_mss=mss)
            tcb.sender.narrow(tcb.agreement)

    def accepts_new_incarnation(self, syn: Tcp, now: int) -> bool:
        """May this SYN replace a connection in TIME-WAIT (RFC 9293 3.10.7.4, MAY-2; RFC 6191 2)?"""
        if self.state is not State.TIME_WAIT or syn.flags & (SYN | ACK | RST) != SYN:
            return False
        stamps, receiver = syn.options.timestamps, self._tcb.receiver
        if self._tcb.agreement.timestamps and stamps is not None and stamps[0] != receiver.recent:
            return not receiver.timestamp_is_old(stamps[0], now)
        return receiver.unwrap(syn.sequence) > receiver.nxt

    def _open(self, state: State, now: int) -> None:
        if self._tcb.opened_at is not None:
            raise LocalError("a TcpConnection is opened once: make another one")
        self._tcb.opened_at = now
        self._tcb.state = state

    # What arrives

    def receive(self, segment: Tcp, now: int) -> None:
        """Take a segment of this connection, its checksum verified. Never raises for what it holds."""
        segment_arrives(self._tcb, segment, now)

    def receive_predicted(
        self,
        sequence: int,
        acknowledgment: int,
        window: int,
        stamps: tuple[int, int] | None,
        payload: bytes | memoryview,
        now: int,
    ) -> bool:
        """Take a segment without other flags than ACK and PSH, given as its fields, if it was to be expected (`prediction`).

        False: it is for `receive`, and nothing was done.
        """
        return take_predicted(self._tcb, sequence, acknowledgment, window, stamps, payload, now)

    # Time

    def deadline(self) -> int | None:
        """When `expire` must be called next, None while no timer runs."""
        tcb = self._tcb
        sender = tcb.sender
        first = sender.retransmit_at
        for timer in (sender.persist_at, tcb.receiver.ack_at, tcb.keepalive.deadline, tcb.time_wait_at):
            if timer is not None and (first is None or timer < first):
                first = timer
        return first

    def expire(self, now: int) -> None:
        """Run the timers that are due."""
        tcb = self._tcb
        tcb.receiver.expire(now)
        handshake = self.state in HANDSHAKE
        if handshake and tcb.sender.retransmit_at is not None and tcb.sender.retransmit_at <= now:
            tcb.syn_due = True
        if not tcb.sender.expire(now, self.config.syn_retries if handshake else self.config.retries):
            tcb.end(errno.ETIMEDOUT)
        if tcb.keepalive.expire(now, outstanding=tcb.sender.outstanding > 0):
            tcb.counters["keepalive_probes"] += 1
            tcb.outbox.append(tcb.segment(tcb.sender.nxt - 1, ACK, now))  # RFC 9293 3.8.4: SEG.SEQ = SND.NXT - 1
        elif tcb.keepalive.dead:
            tcb.end(errno.ETIMEDOUT)
        if tcb.time_wait_at is not None and tcb.time_wait_at <= now:
            tcb.end(0)

    # What leaves

    def transmit(self, now: int) -> list[Tcp]:
        """Every segment that may be sent now, in order."""
        return [segment if type(segment.payload) is bytes else _own(segment) for segment in self.emit(now)]

    def has_segments(self) -> bool:
        """May `transmit` have something to give?"""
        tcb = self._tcb
        return bool(tcb.receiver.ack_now or tcb.outbox or tcb.syn_due or tcb.sender.has_unsent())

    def next_plain(self, now: int) -> PlainSegment | None:
        """The next segment to send, as its fields, while that has no flags but ACK, PSH and FIN and no options but timestamps.

        None: there is no such segment; `has_segments` says whether `emit` may have others. The payload is as `emit` has it.
        """
        tcb = self._tcb
        sender, receiver = tcb.sender, tcb.receiver
        if tcb.outbox or tcb.syn_due or receiver.holds or sender.urgent > sender.una or tcb.state not in _AFTER_FIN_SENT:
            return None
        chunk = sender.next_chunk(now, 0)
        sender.set_timers(now)
        flags = ACK
        payload: bytes | memoryview = b""
        if chunk is not None:
            sequence, payload, push, fin = chunk
            if push and payload:
                flags = ACK | PSH
            if fin:
                flags |= FIN
                tcb.state = _AFTER_FIN_SENT[tcb.state]
        elif receiver.ack_now:
            sequence = sender.nxt
        else:
            return None
        stamps = (tcb.timestamp(now), receiver.recent) if tcb.agreement.timestamps else None
        return wrap(sequence), wrap(receiver.nxt), flags, receiver.window(), stamps, payload

    def emit(self, now: int) -> Iterator[Tcp]:
        """The same one by one: the payload of each lies in the scratch memory, if there is one, until the next is asked for.

        Ask for all of them before anything else is done to the connection.
        """
        tcb = self._tcb
        if tcb.outbox:
            segments, tcb.outbox = tcb.outbox, []
            yield from segments
        if tcb.syn_due:
            yield tcb.syn(now)
        if tcb.state in SENDS:
            yield from self._emit_stream(now)
        if tcb.receiver.ack_now:
            yield tcb.acknowledgment(now)

    def _emit_stream(self, now: int) -> Iterator[Tcp]:
        tcb = self._tcb
        options, reserve = tcb.options(now)
        while chunk := tcb.sender.next_chunk(now, reserve):
            flags = ACK | (PSH if chunk.push and chunk.payload else 0) | (FIN if chunk.fin else 0)
            ahead = tcb.sender.urgent - chunk.sequence
            if ahead > 0:
                yield tcb.segment(chunk.sequence, flags | URG, now, chunk.payload, options, min(ahead, _POINTER_MAXIMUM))
            else:
                yield tcb.segment(chunk.sequence, flags, now, chunk.payload, options)
        if tcb.sender.fin_sent and self.state in _AFTER_FIN_SENT:
            tcb.state = _AFTER_FIN_SENT[self.state]
        tcb.sender.set_timers(now)


def _own(segment: Tcp) -> Tcp:
    """The segment with a copy of its payload."""
    return replace(segment, payload=bytes(segment.payload))
