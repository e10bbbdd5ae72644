"""One TCP connection (RFC 9293), sans-IO: segments and the time go in, segments and the next deadline come out.

Theory of operation
-------------------
The caller owns the clock and the wire. It opens the connection, hands it every checked segment that arrives
(`receive`), tells it when the application has written or read (`source_ready`, `sink_ready`), runs timers that are due
(`expire`, not later than `deadline`), and after any of these puts what `transmit` returns on the wire. There are no
callbacks and no events: `state` and `error` say where the connection is, and the sink hears of data and of the peer's
FIN. Time is in integer nanoseconds and never goes back. Nothing that a peer sends raises; what is wrong is counted.

Three parts share the work. `Sender` (with `Scoreboard`, `CongestionControl`, `RttEstimator`) decides which octets go
next. `Receiver` (with `Reassembly`) puts octets in order and says how many more may come. This module is the state
machine between them: it builds the segments, and takes arriving ones through the checks of RFC 9293 3.10.7 in the
RFC's order, one method each. Sequence numbers are whole numbers inside (`sequence`), 32 bits in a `Tcp`.

A FIN is sent, and the state left for FIN-WAIT-1 or LAST-ACK, when the source's last octet is; so CLOSE with data still
queued stays in ESTABLISHED (or CLOSE-WAIT) a little longer than in the RFC, which cannot be seen from outside.

Documents
---------
RFC 9293 (all of it but what is listed below); RFC 5681, 6582, 6675 congestion control and loss recovery; RFC 6298
retransmission timer; RFC 7323 window scale, timestamps, PAWS; RFC 2018 SACK; RFC 3042 limited transmit; RFC 3465 byte
counting; RFC 5961 blind attacks; RFC 6528 is up to the caller, who gives the initial sequence number; RFC 6928 initial
window; RFC 6191 reuse from TIME-WAIT.

Deviations, each narrower than it looks: a pure ACK or a FIN on the window's right edge is acceptable (`Receiver`); a
SYN in SYN-RECEIVED gets a challenge ACK also after a passive open, as RFC 5961 has it for synchronized states.

Not done: LISTEN (a stack keeps its listeners and makes a connection from each SYN), IP options, security
compartments, ECN, TCP Fast Open, PLPMTUD, sending urgent data, the R1 advice to IP.

Counters
--------
bad_ack, bad_segments, challenge_acks, challenge_acks_withheld, duplicate_acks, duplicate_text, fast_retransmits,
keepalive_probes, missing_timestamps, out_of_order, paws_rejected, retransmissions, sink_refusals, timeouts,
unacceptable, unreachable, window_probes.
"""

from __future__ import annotations

import errno
from collections import Counter
from typing import Final

from netemu.errors import LocalError
from netemu.stack.tcp.buffers import Sink, Source
from netemu.stack.tcp.config import TcpConfig
from netemu.stack.tcp.liveness import KeepAlive, Throttle
from netemu.stack.tcp.negotiation import Agreement, offer, sack_blocks_that_fit, sack_length
from netemu.stack.tcp.receiver import Receiver
from netemu.stack.tcp.rtt import CLOCK_GRANULARITY_NS
from netemu.stack.tcp.sender import Sender
from netemu.stack.tcp.sequence import difference, wrap
from netemu.stack.tcp.state import HANDSHAKE, RECEIVES, SENDS, State
from netemu.stack.tcp.unknown import reply_to_unknown
from netemu.wire.address import Endpoint
from netemu.wire.tcp import ACK, EMPTY_OPTIONS, FIN, PSH, RST, SYN, URG, Tcp, TcpOptions

__all__ = ["TcpConnection"]

_AFTER_FIN_SENT: Final = {State.ESTABLISHED: State.FIN_WAIT_1, State.CLOSE_WAIT: State.LAST_ACK}
_AFTER_FIN_ACKNOWLEDGED: Final = {
    State.FIN_WAIT_1: State.FIN_WAIT_2,
    State.CLOSING: State.TIME_WAIT,
    State.LAST_ACK: State.CLOSED,
}
_AFTER_FIN_RECEIVED: Final = {
    State.ESTABLISHED: State.CLOSE_WAIT,
    State.FIN_WAIT_1: State.CLOSING,
    State.FIN_WAIT_2: State.TIME_WAIT,
}
_RESET_IS_NO_ERROR: Final = frozenset({State.CLOSING, State.LAST_ACK, State.TIME_WAIT})  # RFC 9293 3.10.7.4, second check


class TcpConnection:
    """One end of a connection, in CLOSED until `open_active` or `open_passive` is called once.

    `initial_sequence` (RFC 6528) and `timestamp_offset` (RFC 7323 5.4), 32 bits each, are chosen by the caller.
    `state` and `error` are for reading: `error` is 0 or ECONNREFUSED, ECONNRESET, ETIMEDOUT or what `unreachable` was
    given, and says why the connection is CLOSED.
    """

    def __init__(
        self,
        config: TcpConfig,
        local: Endpoint,
        remote: Endpoint,
        source: Source,
        sink: Sink,
        initial_sequence: int,
        timestamp_offset: int = 0,
    ) -> None:
        self.config = config
        self.local = local
        self.remote = remote
        self.state = State.CLOSED
        self.error = 0
        self.counters: Counter[str] = Counter()
        self._sender = Sender(config, source, wrap(initial_sequence), self.counters)
        self._receiver = Receiver(config, sink, self.counters)
        self._agreement = Agreement(config.mss, 0, 0, sack=False, timestamps=False)
        self._peer_options: TcpOptions | None = None
        self._timestamp_offset = timestamp_offset
        self._opened = False
        self._opened_at = 0
        self._active = False
        self._deferred = False
        self._syn_due = False
        self._outbox: list[Tcp] = []
        self._keepalive = KeepAlive(config)
        self._challenges = Throttle(config.challenge_acks, config.challenge_interval_ns)
        self._time_wait_at: int | None = None

    def __repr__(self) -> str:
        return f"<TcpConnection {self.local} > {self.remote} {self.state.value}>"

    # Introspection

    @property
    def send_mss(self) -> int:
        """The most payload and options of one frame that is sent: the smaller of the peer's MSS and our own."""
        return self._agreement.send_mss

    @property
    def smoothed_rtt_ns(self) -> int | None:
        """SRTT (RFC 6298), None before the first sample."""
        return self._sender.rtt.smoothed

    @property
    def retransmission_timeout_ns(self) -> int:
        return self._sender.rtt.rto

    @property
    def congestion_window(self) -> int:
        """The variable cwnd of RFC 5681, octets."""
        return self._sender.congestion.window

    @property
    def slow_start_threshold(self) -> int:
        """The variable ssthresh of RFC 5681, octets; arbitrarily high before the first loss."""
        return self._sender.congestion.threshold

    @property
    def in_flight(self) -> int:
        """Sequence numbers sent and not acknowledged."""
        return self._sender.outstanding

    @property
    def held_out_of_order(self) -> int:
        """Octets received that cannot be delivered yet."""
        return self._receiver.held

    @property
    def urgent(self) -> int | None:
        """Where the peer's urgent data ends, as an offset in the received stream; the data itself is in line."""
        return self._receiver.urgent

    # What the application and the host do

    def open_active(self, now: int) -> None:
        """OPEN, active (RFC 9293 3.10.1): a SYN is sent next."""
        self._open(now)
        self._active = True
        self._syn_due = True
        self.state = State.SYN_SENT

    def open_passive(self, syn: Tcp, now: int, *, defer: bool = False) -> None:
        """A SYN reached a listener (RFC 9293 3.10.7.2). With `defer` the SYN-ACK is held back until `accept`."""
        if not syn.flags & SYN or syn.flags & (ACK | RST):
            raise LocalError("open_passive needs a SYN without ACK and RST; other segments go to reply_to_unknown")
        self._open(now)
        self._synchronize(syn, now)
        self._deferred = defer
        self._syn_due = not defer
        self.state = State.SYN_RECEIVED

    def accept(self, now: int) -> None:
        """Send the SYN-ACK that `defer` held back."""
        if self._deferred and self.state is State.SYN_RECEIVED:
            self._deferred = False
            self._syn_due = True
            self._opened_at = now

    def source_ready(self, now: int) -> None:
        """The source has more to read, or has ended: `transmit` looks. (Here for symmetry; it costs nothing.)"""

    def sink_ready(self, now: int) -> None:
        """The sink has more room than when it was last looked at; a window update may be due."""
        if self.state in RECEIVES:
            self._receiver.sink_ready()
            self._pass_fin(now)

    def close(self, now: int) -> None:  # noqa: ARG002 - every entry point takes the time
        """CLOSE (RFC 9293 3.10.4): send what the source has now, then FIN; receiving goes on."""
        if self.state is State.SYN_SENT:
            self._end(0)
        else:
            self._sender.end_of_stream()

    def abort(self, now: int) -> None:
        """ABORT (RFC 9293 3.10.5): CLOSED at once, with a RST for a peer that may think the connection exists."""
        if self._deferred:
            acknowledgment = wrap(self._receiver.nxt)
            self._outbox.append(Tcp(self.local.port, self.remote.port, 0, acknowledgment, RST | ACK, window=0))
        elif self.state in SENDS | {State.SYN_RECEIVED, State.FIN_WAIT_2} and self.state not in _RESET_IS_NO_ERROR:
            self._outbox.append(self._segment(self._sender.nxt, RST | ACK, now))
        self._end(0)

    def unreachable(self, error: int, now: int) -> None:  # noqa: ARG002 - every entry point takes the time
        """ICMP says that the peer cannot be reached. Fatal only before it has answered (RFC 9293 3.9.2.2, MUST-56)."""
        self.counters["unreachable"] += 1
        if self.state in HANDSHAKE:
            self._end(error)

    def accepts_new_incarnation(self, syn: Tcp, now: int) -> bool:
        """May this SYN replace a connection in TIME-WAIT (RFC 9293 3.10.7.4 MAY-2, RFC 6191 2)?"""
        if self.state is not State.TIME_WAIT or syn.flags & (SYN | ACK | RST) != SYN:
            return False
        stamps = syn.options.timestamps
        if self._agreement.timestamps and stamps is not None and stamps[0] != self._receiver.recent:
            return not self._receiver.timestamp_is_old(stamps[0], now)
        return self._receiver.unwrap(syn.sequence) > self._receiver.nxt

    def _open(self, now: int) -> None:
        if self._opened:
            raise LocalError("a TcpConnection is opened once: make another one")
        self._opened = True
        self._opened_at = now

    # Timers

    def deadline(self) -> int | None:
        """When `expire` must be called next, None while no timer runs."""
        timers = (
            self._sender.retransmit_at,
            self._sender.persist_at,
            self._receiver.ack_at,
            self._keepalive.deadline,
            self._time_wait_at,
        )
        return min((timer for timer in timers if timer is not None), default=None)

    def expire(self, now: int) -> None:
        """Run the timers that are due; then `transmit`."""
        sender = self._sender
        self._receiver.expire(now)
        handshake = self.state in HANDSHAKE
        if handshake and sender.retransmit_at is not None and sender.retransmit_at <= now:
            self._syn_due = True
        if not sender.expire(now, self.config.syn_retries if handshake else self.config.retries):
            self._end(errno.ETIMEDOUT)
        if self._keepalive.expire(now, outstanding=sender.outstanding > 0):
            self.counters["keepalive_probes"] += 1
            self._outbox.append(self._segment(sender.nxt - 1, ACK, now))  # RFC 9293 3.8.4: SEG.SEQ = SND.NXT - 1
        elif self._keepalive.dead:
            self._end(errno.ETIMEDOUT)
        if self._time_wait_at is not None and self._time_wait_at <= now:
            self._end(0)

    # What leaves

    def transmit(self, now: int) -> list[Tcp]:
        """Every segment that may be sent now, in order."""
        segments, self._outbox = self._outbox, []
        if self._syn_due:
            segments.append(self._syn(now))
        if self.state in SENDS:
            self._transmit_stream(segments, now)
        if self._receiver.ack_now and self.state is not State.SYN_SENT:
            segments.append(self._acknowledgment(now))
        return segments

    def _transmit_stream(self, segments: list[Tcp], now: int) -> None:
        sender = self._sender
        options, reserve = self._options(now)
        while chunk := sender.next_chunk(now, reserve):
            flags = ACK | (PSH if chunk.push and chunk.payload else 0) | (FIN if chunk.fin else 0)
            segments.append(self._segment(chunk.sequence, flags, now, chunk.payload, options))
        if sender.fin_sent:
            self.state = _AFTER_FIN_SENT.get(self.state, self.state)
        sender.set_timers(now)

    def _syn(self, now: int) -> Tcp:
        self._syn_due = False
        answer = self.state is State.SYN_RECEIVED
        self._sender.syn_sent(now)
        self._receiver.ack_now = False
        return Tcp(
            self.local.port,
            self.remote.port,
            wrap(self._sender.iss),
            wrap(self._receiver.nxt) if answer else 0,
            SYN | ACK if answer else SYN,
            self._receiver.initial_window(),
            options=offer(self.config, self._peer_options, (self._timestamp(now), self._receiver.recent)),
        )

    def _acknowledgment(self, now: int) -> Tcp:
        return self._segment(self._sender.nxt, ACK, now)

    def _segment(self, sequence: int, flags: int, now: int, payload: bytes = b"", options: TcpOptions | None = None) -> Tcp:
        """A segment that carries the acknowledgment and the window."""
        if options is None:
            options = self._options(now)[0]
        return Tcp(
            self.local.port,
            self.remote.port,
            wrap(sequence),
            wrap(self._receiver.nxt),
            flags,
            self._receiver.window(),
            payload,
            0,
            options,
        )

    def _options(self, now: int) -> tuple[TcpOptions, int]:
        """The options of a segment after the handshake, and how many octets of each the SACK blocks take."""
        timestamps = self._agreement.timestamps
        blocks: tuple[tuple[int, int], ...] = ()
        if self._agreement.sack and self._receiver.held:
            found = self._receiver.sack_blocks(sack_blocks_that_fit(timestamps=timestamps))
            blocks = tuple((wrap(left), wrap(right)) for left, right in found)
        if not timestamps and not blocks:
            return EMPTY_OPTIONS, 0
        stamps = (self._timestamp(now), self._receiver.recent) if timestamps else None
        return TcpOptions(sack=blocks, timestamps=stamps), sack_length(len(blocks))

    def _timestamp(self, now: int) -> int:
        """TSval: a clock of milliseconds (RFC 7323 5.4)."""
        return wrap(now // CLOCK_GRANULARITY_NS + self._timestamp_offset)

    # What arrives (RFC 9293 3.10.7)

    def receive(self, segment: Tcp, now: int) -> None:
        """Take a segment of this connection, its checksum verified; then `transmit`. Never raises for what it holds."""
        if self.state is State.CLOSED:
            reply = reply_to_unknown(segment)
            if reply is not None:
                self._outbox.append(reply)
        elif self.state is State.SYN_SENT:
            self._receive_in_syn_sent(segment, now)
        elif self._deferred:
            self._receive_while_deferred(segment)
        else:
            self._receive_numbered(segment, now)

    def _receive_in_syn_sent(self, segment: Tcp, now: int) -> None:
        """RFC 9293 3.10.7.3."""
        flags = segment.flags
        if flags & ACK and self._sender.unwrap(segment.acknowledgment) != self._sender.nxt:
            self.counters["bad_ack"] += 1
            self._reject(segment)
            return
        if flags & RST:
            if flags & ACK:
                self._end(errno.ECONNREFUSED)
            else:
                self.counters["bad_segments"] += 1
            return
        if not flags & SYN:
            self.counters["bad_segments"] += 1
            return
        self._synchronize(segment, now)
        if flags & ACK:
            self._establish(segment, self._receiver.irs, segment.window, now)
            self._receiver.ack_now = True
        else:
            self.state = State.SYN_RECEIVED  # simultaneous open
            self._syn_due = True

    def _receive_while_deferred(self, segment: Tcp) -> None:
        """Nothing was sent yet, so only a RST means anything: the peer gave up."""
        if segment.flags & RST and self._receiver.unwrap(segment.sequence) == self._receiver.nxt:
            self._end(errno.ECONNRESET)

    def _receive_numbered(self, segment: Tcp, now: int) -> None:
        """RFC 9293 3.10.7.4: each check drops the segment or passes it on."""
        flags = segment.flags
        sequence = self._receiver.unwrap(segment.sequence)
        if self.state is State.SYN_RECEIVED and flags & SYN and sequence == self._receiver.irs:
            if not flags & ACK:
                self._syn_due = True  # the peer sent its SYN again: our SYN-ACK was lost
                return
            flags &= ~SYN  # simultaneous open, figure 7: what lies before the window is trimmed
            sequence += 1
        if (
            self._check_sequence(segment, sequence, flags, now)
            and self._check_rst(sequence, flags, now)
            and self._check_syn(flags, now)
            and self._check_ack(segment, sequence, flags, now)
        ):
            if self.state in RECEIVES:
                self._take_text(segment, sequence, flags, now)
            self._pass_fin(now)

    def _check_sequence(self, segment: Tcp, sequence: int, flags: int, now: int) -> bool:
        """First check, with PAWS before it (RFC 7323 5.3)."""
        receiver = self._receiver
        stamps = segment.options.timestamps
        reset = flags & RST
        if self._agreement.timestamps and not reset:
            if stamps is None:
                self.counters["missing_timestamps"] += 1  # RFC 7323 3.2: dropped in silence
                return False
            if receiver.timestamp_is_old(stamps[0], now):
                self.counters["paws_rejected"] += 1
                self._answer_unacceptable(segment, now)
                return False
        length = len(segment.payload) + (1 if flags & SYN else 0) + (1 if flags & FIN else 0)
        if not receiver.acceptable(sequence, length):
            self.counters["unacceptable"] += 1
            if not reset:
                if self.state is State.TIME_WAIT and flags & FIN and sequence + length == receiver.nxt:
                    self._begin_time_wait(now)  # eighth check: a retransmitted FIN restarts the 2 MSL
                self._answer_unacceptable(segment, now)
            return False
        self._keepalive.heard(now)
        if self._agreement.timestamps and stamps is not None and not reset:
            receiver.remember_timestamp(stamps[0], sequence, now)
        return True

    def _check_rst(self, sequence: int, flags: int, now: int) -> bool:
        """Second check (RFC 5961 3.2)."""
        if not flags & RST:
            return True
        if sequence != self._receiver.nxt:
            self._challenge(now)
        elif self.state in _RESET_IS_NO_ERROR:
            self._end(0)
        elif self.state is State.SYN_RECEIVED and self._active:
            self._end(errno.ECONNREFUSED)
        else:
            self._end(errno.ECONNRESET)
        return False

    def _check_syn(self, flags: int, now: int) -> bool:
        """Fourth check (RFC 5961 4.2); the third is security, which is not done."""
        if flags & SYN:
            self._challenge(now)
            return False
        return True

    def _check_ack(self, segment: Tcp, sequence: int, flags: int, now: int) -> bool:
        """Fifth check (RFC 5961 5.2 for the range)."""
        if not flags & ACK:
            self.counters["bad_segments"] += 1
            return False
        sender = self._sender
        number = sender.unwrap(segment.acknowledgment)
        window = segment.window if segment.flags & SYN else segment.window << self._agreement.send_shift
        if self.state is State.SYN_RECEIVED:
            if number != sender.nxt:
                self.counters["bad_ack"] += 1
                self._reject(segment)
                return False
            self._establish(segment, sequence, window, now)
            return True
        if not sender.una - sender.max_wnd <= number <= sender.max:
            self.counters["bad_ack"] += 1
            self._challenge(now)
            return False
        if number >= sender.una:
            sender.acknowledge(
                number,
                segment.options.sack,
                self._measured(segment, now),
                now,
                duplicate=not segment.payload and not flags & FIN and window == sender.wnd,
            )
            sender.set_window(sequence, number, window)
        if sender.fin_acknowledged and self.state in _AFTER_FIN_ACKNOWLEDGED:
            self._enter(_AFTER_FIN_ACKNOWLEDGED[self.state], now)
        return self.state is not State.CLOSED

    def _take_text(self, segment: Tcp, sequence: int, flags: int, now: int) -> None:
        """Sixth and seventh check, and the first half of the eighth."""
        receiver = self._receiver
        if flags & URG and segment.urgent_pointer:
            receiver.urgent_until(sequence + segment.urgent_pointer)
        if segment.payload and receiver.text(sequence, segment.payload, now):
            self._outbox.append(self._acknowledgment(now))  # RFC 5681 4.2: one duplicate ACK for each such segment
        if flags & FIN:
            receiver.finish_at(sequence + len(segment.payload))
            receiver.ack_now = True

    def _pass_fin(self, now: int) -> None:
        """Eighth check: the FIN counts when all text before it was delivered."""
        if self.state in RECEIVES and self._receiver.consume_fin():
            self._enter(_AFTER_FIN_RECEIVED[self.state], now)

    # Steps in common

    def _synchronize(self, syn: Tcp, now: int) -> None:
        """The peer's SYN: its number, its options, and text to keep for later."""
        receiver = self._receiver
        receiver.synchronize(syn.sequence)
        self._peer_options = syn.options
        self._agreement = Agreement.of(self.config, syn.options)
        if self._agreement.timestamps and syn.options.timestamps is not None:
            receiver.remember_timestamp(syn.options.timestamps[0], receiver.irs, now, first=True)
        receiver.hold(receiver.nxt, syn.payload)

    def _establish(self, segment: Tcp, sequence: int, window: int, now: int) -> None:
        self.state = State.ESTABLISHED
        self._syn_due = False
        self._sender.establish(self._agreement, sequence, window, self._measured(segment, now), now)
        self._receiver.shift = self._agreement.receive_shift
        if self._receiver.deliver():
            self._receiver.ack_now = True
        self._keepalive.heard(now)

    def _measured(self, segment: Tcp, now: int) -> int | None:
        """The round trip that TSecr tells (RFC 7323 4.1), if it can be true."""
        stamps = segment.options.timestamps
        if not self._agreement.timestamps or stamps is None:
            return None
        measured = difference(self._timestamp(now), stamps[1]) * CLOCK_GRANULARITY_NS
        return measured if 0 <= measured <= now - self._opened_at + CLOCK_GRANULARITY_NS else None

    def _reject(self, segment: Tcp) -> None:
        """An ACK of something never sent, before the connection is synchronized (RFC 9293 3.5.2 group 2)."""
        reply = reply_to_unknown(segment)
        if reply is not None:
            self._outbox.append(reply)

    def _challenge(self, now: int) -> None:
        """A challenge ACK: whoever really is the peer answers it in a way that settles the matter (RFC 5961)."""
        if self._challenges.allows(now):
            self.counters["challenge_acks"] += 1
            self._outbox.append(self._acknowledgment(now))
        else:
            self.counters["challenge_acks_withheld"] += 1

    def _answer_unacceptable(self, segment: Tcp, now: int) -> None:
        """An ACK says what was expected; for segments without text it is throttled, lest two peers answer each other."""
        if segment.payload or segment.flags & FIN:
            self._receiver.ack_now = True
        else:
            self._challenge(now)

    def _enter(self, state: State, now: int) -> None:
        if state is State.CLOSED:
            self._end(0)
            return
        self.state = state
        if state is State.TIME_WAIT:
            self._begin_time_wait(now)

    def _begin_time_wait(self, now: int) -> None:
        self._sender.stop()
        self._keepalive.stop()
        self._time_wait_at = now + 2 * self.config.msl_ns

    def _end(self, error: int) -> None:
        self.state = State.CLOSED
        self.error = error
        self._deferred = False
        self._syn_due = False
        self._time_wait_at = None
        self._sender.stop()
        self._receiver.stop()
        self._keepalive.stop()
