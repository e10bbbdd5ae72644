"""The receiving half: RCV.NXT, the window, what is in order and what is not, and when to acknowledge.

The window is the sink's room. Its right edge never moves back (RFC 7323 2.4): `edge` is the furthest one announced, and
what lies before it is accepted even when the sink has less room by now; such octets wait in `Reassembly`, which is thus
bounded by the window. The edge moves forward in steps of an MSS or half the buffer (RFC 9293 3.8.6.2.2). The shift
of the window scale rounds what is announced down.

An acknowledgment is owed after every second full segment, at the latest after the delay of the configuration, and at
once when a segment is out of order or fills a hole (RFC 9293 3.8.6.3, RFC 5681 4.2).
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from netemu.stack.tcp.buffers import Sink
from netemu.stack.tcp.config import TcpConfig
from netemu.stack.tcp.reassembly import Reassembly
from netemu.stack.tcp.sequence import difference, unwrap

__all__ = ["Receiver"]

_FIELD_MAXIMUM: Final = 0xFFFF
_NOTHING: Final = Reassembly()  # what every connection holds that holds nothing
_TIMESTAMP_LIFETIME_NS: Final = 24 * 24 * 3600 * 1_000_000_000  # RFC 7323 5.5: 24 days


class Receiver:
    """The variables of RFC 9293 3.3.1 that receive. Sequence numbers are whole numbers, times nanoseconds."""

    __slots__ = (
        "_acknowledged_to",
        "_buffer",
        "_counters",
        "_delayed_ack_ns",
        "_largest_segment",
        "_mss",
        "_reassembly",
        "_recent_at",
        "_sink",
        "_unacknowledged",
        "ack_at",
        "ack_now",
        "edge",
        "fin",
        "irs",
        "nxt",
        "recent",
        "shift",
        "urgent",
    )

    def __init__(self, config: TcpConfig, sink: Sink, counters: Counter[str]) -> None:
        self._sink = sink
        self._counters = counters
        self._mss = config.mss
        self._delayed_ack_ns = config.delayed_ack_ns
        self._reassembly = _NOTHING
        self._buffer = sink.room()
        self._largest_segment = 1
        self._unacknowledged = 0
        self._recent_at = 0
        self._acknowledged_to = 0
        self.irs = 0
        self.nxt = 0
        self.edge = 0
        self.shift = 0
        self.fin: int | None = None
        """The sequence number of the peer's FIN, once it arrived."""
        self.urgent: int | None = None
        """Where the urgent data ends, as an offset in the stream, once the peer sent such a pointer."""
        self.recent = 0
        """TS.Recent (RFC 7323 4.3)."""
        self.ack_now = False
        self.ack_at: int | None = None

    @property
    def held(self) -> int:
        """Octets kept out of order, or for a sink that was full."""
        return len(self._reassembly)

    @property
    def delivered(self) -> int:
        """Octets that the sink has taken."""
        return max(self.nxt - self.irs - 1 - (self.fin is not None and self.nxt > self.fin), 0)

    @property
    def holds(self) -> bool:
        """Is anything kept out of order, or for a sink that was full?"""
        return self._reassembly is not _NOTHING

    def synchronize(self, sequence: int) -> None:
        """The peer's SYN arrived, with this 32-bit number; what it may send is the window that our SYN announces."""
        self.irs = sequence
        self.nxt = sequence + 1
        self.edge = self.nxt + self.initial_window()
        self._acknowledged_to = self.nxt

    def sink_opened(self) -> None:
        """The sink was not ready when the SYN came, and is now: its room is what our SYN will announce."""
        self._buffer = max(self._buffer, self._sink.room())
        self.edge = max(self.edge, self.nxt + self.initial_window())

    def initial_window(self) -> int:
        """The window field of a SYN, which is never scaled (RFC 7323 2.2)."""
        return min(self._buffer, _FIELD_MAXIMUM)

    def unwrap(self, sequence: int) -> int:
        return unwrap(sequence, self.nxt)

    # What arrives

    def acceptable(self, sequence: int, length: int) -> bool:
        """The test of RFC 9293 3.10.7.4, first check, `length` being SEG.LEN.

        It is wider by one number, the window's right edge: the peer that has filled the window must use it in its pure
        ACKs, and with no window left it is the allowance for ACKs that the RFC asks for. Text is cut to the window.
        """
        return sequence <= self.edge and (sequence >= self.nxt or sequence + length > self.nxt)

    def takes_next(self, length: int) -> bool:
        """Would text of this length that begins at RCV.NXT be taken as it is, with nothing to put it together with?"""
        return self._reassembly is _NOTHING and self.fin is None and self.nxt + length <= self.edge

    def timestamp_is_old(self, value: int, now: int) -> bool:
        """PAWS (RFC 7323 5.3 R1): this TSval is older than one already seen."""
        return difference(value, self.recent) < 0 and now - self._recent_at < _TIMESTAMP_LIFETIME_NS

    def remember_timestamp(self, value: int, sequence: int, now: int, *, first: bool = False) -> None:
        """Update TS.Recent from a segment that spans what was last acknowledged (RFC 7323 4.3 (2))."""
        if first or (sequence <= self._acknowledged_to and difference(value, self.recent) >= 0):
            self.recent = value
            self._recent_at = now

    def hold(self, payload: bytes) -> None:
        """Keep text that came with a SYN until the connection is established (RFC 9293 3.10.7.2 and 3.10.7.3)."""
        view = memoryview(payload)[: self.edge - self.nxt]
        if view:
            self._keep(self.nxt, view)

    def text(self, sequence: int, payload: bytes | memoryview, now: int) -> bool:
        """Take a segment's text (seventh check); true when it deserves a duplicate ACK of its own, at once."""
        end = min(sequence + len(payload), self.edge if self.fin is None else self.fin)
        start = max(sequence, self.nxt)
        if start >= end:
            self._counters["duplicate_text"] += 1
            self.ack_now = True
            return False
        view = memoryview(payload)[start - sequence : end - sequence]
        if start > self.nxt:
            self._counters["out_of_order"] += 1
            self._keep(start, view)
            return True
        if self._reassembly is not _NOTHING:
            self._keep(start, view)
            self.deliver()
            self.ack_now = True
            return False
        taken = self._offer(view)
        self.nxt += taken
        if taken < len(view):
            self._counters["sink_refusals"] += 1
            self._keep(self.nxt, view[taken:])
        self._largest_segment = max(self._largest_segment, min(len(payload), self._mss))
        self._unacknowledged += len(view)
        if self._unacknowledged >= 2 * self._largest_segment:
            self.ack_now = True
        elif self.ack_at is None:
            self.ack_at = now + self._delayed_ack_ns
        return False

    def _offer(self, view: memoryview) -> int:
        """Give the sink what comes next, and tell it where urgent data ends."""
        ahead = 0 if self.urgent is None else self.irs + 1 + self.urgent - self.nxt
        if not 0 < ahead <= len(view):
            return self._sink.offer(view)
        taken = self._sink.offer_urgent(view[:ahead])
        return taken + self._sink.offer(view[ahead:]) if taken == ahead < len(view) else taken

    def _keep(self, start: int, view: memoryview) -> None:
        if self._reassembly is _NOTHING:
            self._reassembly = Reassembly()
        self._reassembly.insert(self.nxt, start, view)

    def finish_at(self, sequence: int) -> None:
        """A FIN with this number arrived; the first one stands."""
        if self.fin is None and self.nxt <= sequence <= self.edge:
            self.fin = sequence

    def deliver(self) -> bool:
        """Offer the sink what is in order; true when it took any."""
        before = self.nxt
        while self._reassembly:
            view = self._reassembly.front(self.nxt, self.fin)
            taken = self._offer(view) if view else 0
            if not taken:
                break
            self.nxt += taken
            self._reassembly.discard_below(self.nxt)
        if not self._reassembly:
            self._reassembly = _NOTHING
        return self.nxt > before

    def consume_fin(self) -> bool:
        """Pass over the FIN when everything before it was delivered (eighth check); true when that happened now."""
        if self.nxt != self.fin:
            return False
        self.nxt += 1
        self.edge = max(self.edge, self.nxt)
        self.ack_now = True
        self._reassembly = _NOTHING
        self._sink.finish()
        return True

    def urgent_until(self, sequence: int) -> None:
        """The urgent pointer says that urgent data ends here (sixth check; the data stays in line, RFC 6093)."""
        offset = sequence - (self.irs + 1)
        self.urgent = offset if self.urgent is None else max(self.urgent, offset)

    # What is acknowledged

    def window(self) -> int:
        """The window field of the segment that leaves now, which also carries the acknowledgment owed."""
        room = self._sink.room()
        self._buffer = max(self._buffer, room)
        offered = room if self._worth_announcing(room) else self.edge - self.nxt
        field = min(offered >> self.shift, _FIELD_MAXIMUM)
        self.edge = max(self.edge, self.nxt + (field << self.shift))
        self._acknowledged_to = self.nxt
        self._unacknowledged = 0
        self.ack_now = False
        self.ack_at = None
        return field

    def sink_ready(self) -> None:
        """The sink has room again: deliver what waited, and owe a window update when it has doubled."""
        if self._reassembly is not _NOTHING and self.deliver():
            self.ack_now = True
        room = self._sink.room()
        self._buffer = max(self._buffer, room)
        usable = self.edge - self.nxt
        # A window that still has its first size and room for two segments waits for the next ACK.
        used = self.nxt > self._acknowledged_to or usable < 2 * self._mss
        if used and room >= 2 * usable and self._worth_announcing(room):
            self.ack_now = True

    def _worth_announcing(self, room: int) -> bool:
        """Silly window avoidance (RFC 9293 3.8.6.2.2, MUST-39)."""
        return self.nxt + room - self.edge >= max(min(self._buffer // 2, self._mss), 1)

    def sack_blocks(self, limit: int) -> list[tuple[int, int]]:
        """Up to `limit` blocks of whole sequence numbers, the most recent first."""
        return self._reassembly.blocks(self.nxt, limit) if self._reassembly else []

    def expire(self, now: int) -> None:
        if self.ack_at is not None and self.ack_at <= now:
            self.ack_at = None
            self.ack_now = True

    def stop(self) -> None:
        self.ack_at = None
        self.ack_now = False
        self._reassembly = _NOTHING
