"""The transmission control block (RFC 9293 3.3.1): everything a connection remembers, and the steps that change it.

The user's calls (`connection`) and arriving segments (`arrival`) both work on it. It builds the segments, too, for it
has all that goes into them.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, cast

from netemu.stack.tcp.buffers import Sink, Source
from netemu.stack.tcp.config import TcpConfig
from netemu.stack.tcp.liveness import KeepAlive, Throttle
from netemu.stack.tcp.negotiation import Agreement, offer, sack_blocks_that_fit, sack_length
from netemu.stack.tcp.receiver import Receiver
from netemu.stack.tcp.rtt import CLOCK_GRANULARITY_NS
from netemu.stack.tcp.sender import Sender
from netemu.stack.tcp.sequence import difference, wrap
from netemu.stack.tcp.state import RECEIVES, State
from netemu.stack.tcp.unknown import reply_to_unknown
from netemu.wire.address import Endpoint
from netemu.wire.tcp import ACK, EMPTY_OPTIONS, SYN, Tcp, TcpOptions

__all__ = ["Tcb"]

_AFTER_FIN_RECEIVED: Final = {
    State.ESTABLISHED: State.CLOSE_WAIT,
    State.FIN_WAIT_1: State.CLOSING,
    State.FIN_WAIT_2: State.TIME_WAIT,
}


class Tcb:
    """The state of one connection; for `connection` and `arrival` only."""

    __slots__ = (
        "_peer_options",
        "_throttle",
        "_timestamp_offset",
        "active",
        "agreement",
        "config",
        "counters",
        "deferred",
        "error",
        "keepalive",
        "local",
        "opened_at",
        "outbox",
        "receiver",
        "remote",
        "sender",
        "state",
        "syn_due",
        "time_wait_at",
    )

    def __init__(
        self,
        config: TcpConfig,
        local: Endpoint,
        remote: Endpoint,
        source: Source,
        sink: Sink,
        initial_sequence: int,
        timestamp_offset: int,
        scratch: memoryview | None,
    ) -> None:
        self.config = config
        self.local = local
        self.remote = remote
        self.state = State.CLOSED
        self.error = 0
        self.counters: Counter[str] = Counter()
        self.sender = Sender(config, source, wrap(initial_sequence), self.counters, scratch)
        self.receiver = Receiver(config, sink, self.counters)
        self.agreement = Agreement.of(config, EMPTY_OPTIONS)
        self.opened_at: int | None = None
        self.active = False
        self.deferred: Tcp | None = None  # the peer's SYN, while the SYN-ACK is held back
        self.syn_due = False
        self.outbox: list[Tcp] = []
        self.keepalive = KeepAlive(config)
        self.time_wait_at: int | None = None
        self._peer_options: TcpOptions | None = None
        self._timestamp_offset = timestamp_offset
        self._throttle: Throttle | None = None  # made with the first answer

    # Segments

    def syn(self, now: int) -> Tcp:
        """Our SYN, with an ACK when the peer's has arrived; starts the retransmission timer."""
        self.syn_due = False
        self.sender.syn_sent(now)
        answer = self.state is State.SYN_RECEIVED
        return Tcp(
            self.local.port,
            self.remote.port,
            wrap(self.sender.iss),
            wrap(self.receiver.nxt) if answer else 0,
            SYN | ACK if answer else SYN,
            self.receiver.initial_window(),
            options=offer(self.config, self._peer_options, (self.timestamp(now), self.receiver.recent)),
        )

    def segment(
        self,
        sequence: int,
        flags: int,
        now: int,
        payload: bytes | memoryview = b"",
        options: TcpOptions | None = None,
        urgent_pointer: int = 0,
    ) -> Tcp:
        """Any other segment: it carries the acknowledgment and the window. `sequence` is a whole number."""
        return Tcp(
            self.local.port,
            self.remote.port,
            wrap(sequence),
            wrap(self.receiver.nxt),
            flags,
            self.receiver.window(),
            cast("bytes", payload),  # a view serves wherever octets are only read
            urgent_pointer,
            self.options(now)[0] if options is None else options,
        )

    def acknowledgment(self, now: int) -> Tcp:
        return self.segment(self.sender.nxt, ACK, now)

    def options(self, now: int) -> tuple[TcpOptions, int]:
        """The options of a segment after the handshake, and how many octets the SACK blocks take of them."""
        timestamps = self.agreement.timestamps
        blocks: tuple[tuple[int, int], ...] = ()
        if self.agreement.sack and self.receiver.holds:
            found = self.receiver.sack_blocks(sack_blocks_that_fit(timestamps=timestamps))
            blocks = tuple((wrap(left), wrap(right)) for left, right in found)
        if not timestamps and not blocks:
            return EMPTY_OPTIONS, 0
        stamps = (self.timestamp(now), self.receiver.recent) if timestamps else None
        return TcpOptions(sack=blocks, timestamps=stamps), sack_length(len(blocks))

    def timestamp(self, now: int) -> int:
        """TSval: a clock of milliseconds (RFC 7323 5.4)."""
        return wrap(now // CLOCK_GRANULARITY_NS + self._timestamp_offset)

    # Answers

    def reject(self, segment: Tcp) -> None:
        """A RST for a segment that cannot be of this connection (RFC 9293 3.5.2, groups 1 and 2)."""
        reply = reply_to_unknown(segment)
        if reply is not None:
            self.outbox.append(reply)

    def answer(self, reason: str, now: int) -> None:
        """An ACK that says what is expected here, throttled (RFC 5961 7) and counted as `reason`."""
        if self._throttle is None:
            self._throttle = Throttle(self.config.challenge_acks, self.config.challenge_interval_ns)
        if self._throttle.allows(now):
            self.counters[reason] += 1
            self.outbox.append(self.acknowledgment(now))
        else:
            self.counters["answers_withheld"] += 1

    # Transitions

    def synchronize(self, syn: Tcp, now: int) -> None:
        """The peer's SYN: its number, its options, and text to keep for later."""
        self.receiver.synchronize(syn.sequence)
        self._peer_options = syn.options
        self.agreement = Agreement.of(self.config, syn.options)
        if self.agreement.timestamps and syn.options.timestamps is not None:
            self.receiver.remember_timestamp(syn.options.timestamps[0], self.receiver.irs, now, first=True)
        self.receiver.hold(syn.payload)

    def establish(self, segment: Tcp, sequence: int, window: int, now: int) -> None:
        """Our SYN is acknowledged by this segment, whose `window` is in octets."""
        self.state = State.ESTABLISHED
        self.syn_due = False
        self._peer_options = None
        self.sender.establish(self.agreement, sequence, window, self.round_trip(segment.options.timestamps, now), now)
        self.receiver.shift = self.agreement.receive_shift
        if self.receiver.deliver():
            self.receiver.ack_now = True
        self.keepalive.heard(now)

    def pass_fin(self, now: int) -> None:
        """The eighth check's second half: the peer's FIN counts when all text before it was delivered."""
        if self.state in RECEIVES and self.receiver.consume_fin():
            self.enter(_AFTER_FIN_RECEIVED[self.state], now)

    def enter(self, state: State, now: int) -> None:
        if state is State.CLOSED:
            self.end(0)
            return
        self.state = state
        if state is State.TIME_WAIT:
            self.start_time_wait(now)

    def start_time_wait(self, now: int) -> None:
        """Start, or start again, the wait of 2 MSL."""
        self.sender.stop()
        self.keepalive.stop()
        self.time_wait_at = now + 2 * self.config.msl_ns

    def end(self, error: int) -> None:
        """CLOSED, with the reason or 0; what is in `outbox` still leaves."""
        self.state = State.CLOSED
        self.error = error
        self.deferred = None
        self.syn_due = False
        self.time_wait_at = None
        self.sender.stop()
        self.receiver.stop()
        self.keepalive.stop()

    def round_trip(self, stamps: tuple[int, int] | None, now: int) -> int | None:
        """The round trip that TSecr tells (RFC 7323 4.1), if it can be true."""
        if not self.agreement.timestamps or stamps is None or self.opened_at is None:
            return None
        measured = difference(self.timestamp(now), stamps[1]) * CLOCK_GRANULARITY_NS
        return measured if 0 <= measured <= now - self.opened_at + CLOCK_GRANULARITY_NS else None
