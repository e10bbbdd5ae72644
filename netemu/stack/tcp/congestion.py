"""How much may be in flight: slow start, congestion avoidance and the two reductions (RFC 5681, with RFC 3465 and 6928).

The window is in octets. It grows by octets acknowledged, and only while it is the limit; it halves once for each
episode of loss and falls to one segment on a timeout. Which octets are lost, and which to send, is `scoreboard`'s.
"""

from __future__ import annotations

from typing import Final

__all__ = ["CongestionControl"]

_INITIAL_WINDOW_OCTETS: Final = 14600  # RFC 6928 2
_UNLIMITED: Final = 1 << 40  # RFC 5681 3.1: the initial ssthresh should be arbitrarily high


class CongestionControl:
    """`window` (cwnd) and `threshold` (ssthresh), both in octets; `smss` is the sender's maximum segment size."""

    __slots__ = ("_acknowledged", "_growth_limit", "_initial", "smss", "threshold", "window")

    def __init__(self, smss: int, initial_segments: int, growth_limit: int, *, syn_lost: bool) -> None:
        """`growth_limit`: the most that one ACK adds in slow start, in octets (L of RFC 3465 2.3)."""
        initial = min(initial_segments * smss, max(2 * smss, _INITIAL_WINDOW_OCTETS))
        self.smss = smss
        self._growth_limit = growth_limit
        self._initial = smss if syn_lost else initial  # RFC 5681 3.1: one segment when a SYN was lost
        self.window = self._initial
        self.threshold = _UNLIMITED
        self._acknowledged = 0

    def acknowledged(self, octets: int, flight: int, *, after_timeout: bool) -> None:
        """New data was acknowledged while `flight` octets were out; `after_timeout`: of what timed out (RFC 3465 2.3)."""
        if 2 * flight < self.window:
            return  # the application or the peer's window is the limit: nothing was learnt (RFC 7661 4.1)
        if self.window < self.threshold:
            self.window += min(octets, self.smss if after_timeout else self._growth_limit)
            return
        self._acknowledged += octets  # RFC 5681 3.1: one SMSS for each window's worth of octets acknowledged
        if self._acknowledged >= self.window:
            self._acknowledged -= self.window
            self.window += self.smss

    def loss_detected(self, flight: int) -> None:
        """Fast retransmit (RFC 5681 3.2 step 2, RFC 6675 5 step 4.2)."""
        self.threshold = max(flight // 2, 2 * self.smss)
        self.window = self.threshold
        self._acknowledged = 0

    def timed_out(self, flight: int) -> None:
        """The retransmission timer expired (RFC 5681 3.1, equation 4).

        `flight` counts what is lost, too, so it is the same when a segment times out again: ssthresh is held, as it must.
        """
        self.threshold = max(flight // 2, 2 * self.smss)
        self.window = self.smss
        self._acknowledged = 0

    def recovered(self) -> None:
        """Everything outstanding when the loss was seen is acknowledged (RFC 6582 3.2 step 3)."""
        self.window = min(self.window, self.threshold)

    def restart(self) -> None:
        """Nothing was sent for longer than the retransmission timeout (RFC 5681 4.1)."""
        self.window = min(self.window, self._initial)
