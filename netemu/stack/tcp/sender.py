"""The sending half: what may be sent now, and what an acknowledgment means.

`next_chunk` answers one question, "which octets go next?", in the order of RFC 6675 5: octets that are lost; then new
ones, as far as the peer's window, the congestion window, silly window avoidance (RFC 9293 3.8.6.2.1) and Nagle
(3.7.4) let them; then, in recovery, octets that may be lost. Payload is read from the source when it is sent and again
when it is retransmitted; nothing is kept here but marks on the sequence space.

Two timers, never both at once: the retransmission timer while something is outstanding (RFC 6298 5), the persist timer
while nothing is and the peer's window keeps everything back (RFC 9293 3.8.6.1). A probe is one octet; it does not move
SND.NXT, only `max`, the highest number ever sent. A FIN needs no probe: it is sent and retransmitted.

Not done: PLPMTUD (RFC 8899), ECN (RFC 3168), pacing.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum
from typing import NamedTuple

from netemu.stack.tcp.buffers import Source
from netemu.stack.tcp.config import TcpConfig
from netemu.stack.tcp.congestion import CongestionControl
from netemu.stack.tcp.negotiation import Agreement
from netemu.stack.tcp.rtt import RttEstimator
from netemu.stack.tcp.scoreboard import DUP_THRESH, Scoreboard
from netemu.stack.tcp.sequence import unwrap
from netemu.wire.tcp import EMPTY_OPTIONS

__all__ = ["Chunk", "Recovery", "Sender"]


class Chunk(NamedTuple):
    """Octets to put into one segment: where they begin (a whole number), and whether the stream ends with them.

    `payload` is a view of the connection's scratch memory if it was given any, and good until the next chunk is asked for.
    """

    sequence: int
    payload: bytes | memoryview
    push: bool
    fin: bool


class Recovery(Enum):
    """Why lost octets are being sent again."""

    NONE = "none"
    FAST = "fast"  # duplicate ACKs: RFC 6582, RFC 6675
    TIMEOUT = "timeout"  # RFC 5681 3.1: slow start over everything that was outstanding


class Sender:
    """The variables of RFC 9293 3.3.1 that send. Sequence numbers are whole numbers, times nanoseconds."""

    __slots__ = (
        "_config",
        "_counters",
        "_data",
        "_duplicates",
        "_fin",
        "_last_sent",
        "_lends",
        "_limit",
        "_probe_due",
        "_probes",
        "_recovery_point",
        "_retransmit_first",
        "_sack",
        "_scratch",
        "_source",
        "_timed",
        "_unanswered",
        "_wl1",
        "_wl2",
        "attempts",
        "congestion",
        "fin_sent",
        "iss",
        "max",
        "max_wnd",
        "nxt",
        "persist_at",
        "recovery",
        "retransmit_at",
        "rtt",
        "scoreboard",
        "shift",
        "smss",
        "una",
        "urgent",
        "wnd",
    )

    def __init__(
        self,
        config: TcpConfig,
        source: Source,
        initial_sequence: int,
        counters: Counter[str],
        scratch: memoryview | None = None,
    ) -> None:
        self._config = config
        self._source = source
        self._counters = counters
        self._scratch = memoryview(bytearray()) if scratch is None else scratch
        self._lends = scratch is not None
        self._sack = False
        self._data = initial_sequence + 1  # the sequence number of the source's offset 0
        self._fin: int | None = None  # that of our FIN, once the end of the stream is known
        self._timed: tuple[int, int] | None = None  # a sequence number, and when it was sent (RFC 6298 3, Karn)
        self._retransmit_first = False
        self._recovery_point = initial_sequence
        self._duplicates = 0
        self._last_sent = 0
        self._probes = 0
        self._unanswered = 0
        self._probe_due = False
        self.iss = initial_sequence
        self.una = initial_sequence
        self.nxt = initial_sequence
        self.urgent = initial_sequence
        """SND.UP: behind the last urgent octet (RFC 9293 3.3.1)."""
        self.max = initial_sequence
        self.wnd = 0
        self.max_wnd = 0
        self._wl1 = 0
        self._wl2 = 0
        self.shift = 0
        self.fin_sent = False
        self.attempts = 0
        """Retransmissions of what is at SND.UNA, in a row."""
        self.recovery = Recovery.NONE
        self.scoreboard: Scoreboard | None = None
        """Made when something is lost or arrives out of order, gone when that is mended."""
        self.rtt = RttEstimator(config)
        self.retransmit_at: int | None = None
        self.persist_at: int | None = None
        self._agree(Agreement.of(config, EMPTY_OPTIONS), syn_lost=False)

    def unwrap(self, acknowledgment: int) -> int:
        return unwrap(acknowledgment, self.una)

    # The handshake

    def syn_sent(self, now: int) -> None:
        """A SYN, with or without ACK, leaves now."""
        if self.nxt == self.iss:
            self.nxt = self.max = self.iss + 1
            self._timed = (self.nxt, now)
        else:
            self._timed = None  # sent again: which one its ACK means cannot be told (RFC 6298 3)
        self.retransmit_at = now + self.rtt.rto

    def establish(self, agreement: Agreement, sequence: int, window: int, measured: int | None, now: int) -> None:
        """Our SYN is acknowledged, by a segment with this `sequence` and this `window` in octets; `measured` is the round trip."""
        syn_lost = self.attempts > 0
        self._sample(self.iss + 1, measured, now)
        if syn_lost:
            self.rtt.syn_was_lost()
        self.una = self.iss + 1
        self.attempts = 0
        self.recovery = Recovery.NONE
        self._recovery_point = self.iss
        self._last_sent = now
        self.retransmit_at = None
        self.shift = agreement.send_shift
        self.wnd = self.max_wnd = window
        self._wl1 = sequence
        self._wl2 = self.una
        self._agree(agreement, syn_lost=syn_lost)

    def _agree(self, agreement: Agreement, *, syn_lost: bool) -> None:
        limit = self._config.segment_limit or agreement.payload
        self.smss = min(agreement.payload, limit)
        self._sack = agreement.sack
        self._limit = limit
        # An offloaded segment is one unit of sending, and its ACK one ACK: growth must not be slower for it.
        growth = max(2 * self.smss, limit)
        self.congestion = CongestionControl(self.smss, self._config.initial_window, growth, syn_lost=syn_lost)
        self.scoreboard = None

    def narrow(self, agreement: Agreement) -> None:
        """The path takes smaller segments only: what is outstanding goes again in such ones, from a slow start (RFC 1191 6.4)."""
        self._limit = self._config.segment_limit or agreement.payload
        self.smss = self.congestion.smss = min(agreement.payload, self._limit)
        self.scoreboard = None
        if self.outstanding:
            self._start_over()

    def _board(self) -> Scoreboard:
        if self.scoreboard is None:
            self.scoreboard = Scoreboard(self.una, self.smss)
        return self.scoreboard

    # What is sent

    @property
    def outstanding(self) -> int:
        """FlightSize: sent and not acknowledged, SACKed octets included."""
        return self.nxt - self.una

    @property
    def acknowledged_octets(self) -> int:
        """Octets of the source, counted without SYN and FIN."""
        return self._data - self.iss - 1

    def has_unsent(self) -> bool:
        """Is there anything, in the source or to be repeated, that waits for its turn?"""
        return (
            self.scoreboard is not None
            or self._probe_due
            or self._stream_end() > self.nxt
            or (self._fin is not None and not self.fin_sent)
        )

    @property
    def fin_acknowledged(self) -> bool:
        return self.fin_sent and self._fin is not None and self.una > self._fin

    def end_of_stream(self) -> None:
        """Nothing follows what the source has now."""
        if self._fin is None:
            self._fin = self._data + self._source.available()

    def urge(self, count: int) -> None:
        """The first `count` octets that the source has are urgent."""
        self.urgent = max(self.urgent, self._data + count)

    def next_chunk(self, now: int, reserve: int) -> Chunk | None:
        """The octets to send next, accounted as sent; `reserve` octets of each frame are taken by a SACK option."""
        mss = self.smss - reserve
        board = self.scoreboard
        if board is None:
            chunk = self._send_new(self.congestion.window - self.nxt + self.una, mss, now)
        else:
            budget = self.congestion.window - board.pipe(self.nxt)
            chunk = None
            if self.recovery is not Recovery.NONE:
                chunk = self._resend(board, board.next_lost(), budget, mss)
            if chunk is None:
                chunk = self._send_new(budget, mss, now)
            if chunk is None and self.recovery is Recovery.FAST and self._sack:
                chunk = self._resend(board, board.next_doubtful(), budget, mss)
        if chunk is not None:
            self._last_sent = now
        return chunk

    def _resend(self, board: Scoreboard, hole: tuple[int, int] | None, budget: int, mss: int) -> Chunk | None:
        if hole is None or (budget < self.smss and not self._retransmit_first):
            return None
        start, end = hole
        if start > self.una:
            end = min(end, self.una + self.wnd)  # RFC 7323 2.4: what the window no longer covers waits
            if end <= start:
                return None
        chunk = self._read(start, min(end, start + self._whole_segments(max(budget, mss), mss)))
        if chunk is None:
            return None
        self._retransmit_first = False
        self._timed = None
        board.retransmitted(start + len(chunk.payload) + chunk.fin)
        self._counters["retransmissions"] += 1
        return chunk

    def _send_new(self, budget: int, mss: int, now: int) -> Chunk | None:
        end = self._stream_end()
        unsent = end - self.nxt  # D of RFC 9293 3.8.6.2.1; negative once the FIN is sent
        if unsent < 0 or (unsent == 0 and self._fin is None):
            return None
        idle = self.nxt == self.una
        if idle and now - self._last_sent > self.rtt.rto:
            self.congestion.restart()
            budget = self.congestion.window
        usable = self.una + self.wnd - self.nxt  # U
        if unsent == 0:
            return self._send_fin(usable, now)
        if budget < min(mss, unsent):
            return None
        size = min(unsent, usable, self._whole_segments(max(budget, mss), mss))
        if size >= mss:
            size = size if size == unsent and not self._holds_back() else size // mss * mss
        elif self._probe_due:
            return self._probe(size, now)
        elif size <= 0 or (not idle and self._holds_back()) or (size < unsent and 2 * size < self.max_wnd):
            return None
        chunk = self._read(self.nxt, self.nxt + size + (size == unsent and size < usable))
        return self._sent(chunk, now)

    def _send_fin(self, usable: int, now: int) -> Chunk | None:
        if usable < 1 and not self._probe_due:
            return None
        return self._sent(Chunk(self.nxt, b"", push=False, fin=True), now)

    def _probe(self, size: int, now: int) -> Chunk | None:
        """The persist timer expired: fill the silly window that there is, or send one octet outside of the closed one."""
        chunk = self._read(self.nxt, self.nxt + max(size, 1))
        if size > 0 or chunk is None:
            return self._sent(chunk, now)
        self._probe_due = False
        self._counters["window_probes"] += 1
        self.max = max(self.max, self.nxt + len(chunk.payload))
        return chunk

    def _sent(self, chunk: Chunk | None, now: int) -> Chunk | None:
        """Account for new octets."""
        self._probe_due = False
        if chunk is None:
            return None
        self.nxt = chunk.sequence + len(chunk.payload) + chunk.fin
        self.max = max(self.max, self.nxt)
        self.fin_sent = self.fin_sent or chunk.fin
        if self._timed is None and self.recovery is Recovery.NONE:
            self._timed = (self.nxt, now)
        return chunk

    def _read(self, start: int, end: int) -> Chunk | None:
        """The octets [start, end) of the stream, where `end` may count the FIN; None when the source has none after all."""
        fin = self._fin
        size = (end if fin is None else min(end, fin)) - start
        if size > len(self._scratch):
            self._scratch = memoryview(bytearray(max(size, self._limit)))
        if size > 0:
            size = self._source.read_into(start - self._data, self._scratch[:size])
        reached = start + size
        last = fin is not None and reached == fin and end > fin
        if not size and not last:
            return None
        payload = self._scratch[:size]
        return Chunk(start, payload if self._lends else bytes(payload), push=reached == self._stream_end(), fin=last)

    def _stream_end(self) -> int:
        """The number after the last octet that there is now; fixed from the moment the end of the stream is known."""
        if self._fin is not None:
            return self._fin
        end = self._data + self._source.available()
        if self._source.eof:
            self._fin = end
        return end

    def _holds_back(self) -> bool:
        """Nagle: a short segment waits while anything is outstanding, unless the FIN goes with it (RFC 9293 3.7.4)."""
        return self._config.nagle and self._fin is None

    def _whole_segments(self, octets: int, mss: int) -> int:
        """As many octets as one emitted segment may have, in units of what a frame holds."""
        limit = mss if self.urgent > self.una else self._limit  # segmentation by others would copy the urgent pointer
        return max(min(octets, limit) // mss * mss, mss)

    # What is acknowledged

    def set_window(self, sequence: int, acknowledgment: int, window: int) -> None:
        """Update SND.WND, unless from an older segment (RFC 9293 3.10.7.4, fifth check)."""
        if self._wl1 < sequence or (self._wl1 == sequence and self._wl2 <= acknowledgment):
            self.wnd = window
            self.max_wnd = max(self.max_wnd, window)
            self._wl1 = sequence
            self._wl2 = acknowledgment

    def acknowledge(
        self, number: int, blocks: tuple[tuple[int, int], ...], measured: int | None, now: int, *, duplicate: bool
    ) -> None:
        """An acceptable ACK of everything before `number`, with SACK `blocks` (32-bit numbers).

        `measured` is the round trip that its timestamp tells. `duplicate`: by the definition of RFC 5681 2, as far as
        the segment and the window go. Tells the source what it may discard.
        """
        flight = self.outstanding
        advances = number > self.una
        self._unanswered = 0
        if advances:
            self._advance(number, flight, measured, now)
        elif not self.wnd:
            self.attempts = 0  # the peer is alive and has no room: not a reason to give up (RFC 9293 3.8.6.1)
        news = False
        if self._sack:
            for left, right in blocks:
                start, end = self.unwrap(left), self.unwrap(right)
                if self.una <= start < end <= self.nxt and self._board().selectively_acknowledged(start, end):
                    news = True
        elif duplicate and flight and not advances:
            news = True
        if news:
            self._duplicate()

    def _advance(self, number: int, flight: int, measured: int | None, now: int) -> None:
        octets = number - self.una
        self._sample(number, measured, now, expected=max(flight // (2 * self.smss), 1))
        self.una = number
        self.nxt = max(self.nxt, number)
        self.attempts = 0
        self._duplicates = 0
        stop = number if self._fin is None else min(number, self._fin)
        if stop > self._data:
            self._source.discard(stop - self._data)
            self._data = stop
        self.retransmit_at = now + self.rtt.rto if self.outstanding else None  # RFC 6298 5.2, 5.3
        over = number >= self._recovery_point
        if self.scoreboard is not None:
            self._mark(self.scoreboard, number, octets, over=over)
        if self.recovery is not Recovery.FAST:
            self.congestion.acknowledged(octets, flight, after_timeout=self.recovery is Recovery.TIMEOUT)
        elif over:
            self.congestion.recovered()
        if over:
            self.recovery = Recovery.NONE

    def _mark(self, board: Scoreboard, number: int, octets: int, *, over: bool) -> None:
        """Everything before `number`, `octets` more than before, is acknowledged; `over`: all that recovery is about."""
        board.acknowledged(number)
        if over or self.recovery is not Recovery.FAST:
            board.forget_departures()
        elif not self._sack:
            board.partly_acknowledged(octets)
            board.front_is_lost(self.nxt)
            self._retransmit_first = True
        if over and board.blank:
            self.scoreboard = None

    def _duplicate(self) -> None:
        """A duplicate ACK: RFC 6675 2 with SACK, RFC 5681 2 without."""
        self._counters["duplicate_acks"] += 1
        if self.recovery is Recovery.TIMEOUT:
            return  # RFC 6582 4 and RFC 6675 5.1: slow start goes over everything that was outstanding anyway
        if not self._sack:
            if self.recovery is Recovery.NONE and self.una <= self._recovery_point:
                return  # RFC 6582 3.2 step 2: echoes of the recovery that has just ended
            self._board().departed()
        self._duplicates += 1
        if self.recovery is Recovery.FAST:
            return
        board = self._board()
        if self._duplicates >= DUP_THRESH or board.front_lost:
            self._counters["fast_retransmits"] += 1
            self.recovery = Recovery.FAST
            self._recovery_point = self.nxt
            self.congestion.loss_detected(self.outstanding)
            board.recovery_begins()
            board.front_is_lost(self.nxt)
            self._retransmit_first = True

    def _sample(self, number: int, measured: int | None, now: int, expected: int = 1) -> None:
        if measured is None and self._timed is not None and number >= self._timed[0]:
            measured = now - self._timed[1]
            expected = 1
        if self._timed is not None and number >= self._timed[0]:
            self._timed = None
        if measured is not None:
            self.rtt.sample(measured, expected)

    # Timers

    def set_timers(self, now: int) -> None:
        """After sending: one timer runs while there is anything to wait for."""
        if self.outstanding:
            self._stop_probing()
            if self.retransmit_at is None:
                self.retransmit_at = now + self.rtt.rto  # RFC 6298 5.1
        elif self._stream_end() > self.nxt or (self._fin is not None and not self.fin_sent):
            self.retransmit_at = None
            if self.persist_at is None:
                self.persist_at = now + self._persist_interval()
        else:
            self.retransmit_at = None
            self._stop_probing()

    def _stop_probing(self) -> None:
        self.persist_at = None
        self._probes = 0

    def _persist_interval(self) -> int:
        return min(self.rtt.rto << min(self._probes, 16), self._config.max_rto_ns)

    def expire(self, now: int, limit: int) -> bool:
        """Run the timers that are due; false when the peer has not answered `limit` times in a row (R2)."""
        if self.retransmit_at is not None and self.retransmit_at <= now:
            if self.attempts >= limit:
                return False
            self._retransmission_timeout()
            self.retransmit_at = now + self.rtt.rto
        if self.persist_at is not None and self.persist_at <= now:
            if self._unanswered >= limit:
                return False
            self._unanswered += 1
            self._probes += 1
            self._probe_due = True
            self.persist_at = now + self._persist_interval()
        return True

    def _retransmission_timeout(self) -> None:
        self._counters["timeouts"] += 1
        self.rtt.back_off()
        self.attempts += 1
        self._start_over()

    def _start_over(self) -> None:
        """Everything outstanding is lost."""
        self.congestion.timed_out(self.outstanding)
        self._timed = None
        self._duplicates = 0
        self._retransmit_first = False
        self.recovery = Recovery.TIMEOUT
        self._recovery_point = self.nxt
        self._board().timed_out(self.nxt)

    def stop(self) -> None:
        self.retransmit_at = self.persist_at = None
