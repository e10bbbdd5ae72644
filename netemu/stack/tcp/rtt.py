"""The retransmission timeout (RFC 6298), its samples taken by timestamps (RFC 7323 4) or by timing one segment.

All times are nanoseconds. SRTT and RTTVAR are kept in whole nanoseconds.
"""

from __future__ import annotations

from typing import Final

from netemu.stack.tcp.config import TcpConfig

__all__ = ["CLOCK_GRANULARITY_NS", "RttEstimator"]

CLOCK_GRANULARITY_NS: Final = 1_000_000  # G of RFC 6298 2: the timestamp clock ticks each millisecond
_ALPHA_SHIFT: Final = 3  # RFC 6298 2.3: alpha = 1/8
_BETA_SHIFT: Final = 2  # RFC 6298 2.3: beta = 1/4
_K: Final = 4  # RFC 6298 2.2
_RTO_AFTER_LOST_SYN_NS: Final = 3_000_000_000  # RFC 6298 5.7


class RttEstimator:
    """SRTT, RTTVAR and RTO of one connection."""

    __slots__ = ("_backoff", "_base", "_maximum", "_minimum", "smoothed", "variation")

    def __init__(self, config: TcpConfig) -> None:
        self._base = config.initial_rto_ns  # RFC 6298 2.1
        self._minimum = config.min_rto_ns
        self._maximum = config.max_rto_ns
        self._backoff = 0
        self.smoothed: int | None = None
        self.variation = 0

    @property
    def rto(self) -> int:
        """The timeout now, with the backoff of RFC 6298 5.5."""
        return min(self._base << self._backoff, self._maximum)

    def sample(self, measured: int, expected: int = 1) -> None:
        """One measurement, of a segment that was not retransmitted or that a timestamp tells apart (RFC 6298 3).

        `expected` is how many samples a round trip gives: their weight shrinks so that history keeps its length
        (RFC 7323, appendix G).
        """
        if self.smoothed is None:
            self.smoothed = measured
            self.variation = measured // 2
        else:
            deviation = abs(self.smoothed - measured)
            self.variation += (deviation - self.variation) // (expected << _BETA_SHIFT)
            self.smoothed += (measured - self.smoothed) // (expected << _ALPHA_SHIFT)
        self._base = max(self.smoothed + max(CLOCK_GRANULARITY_NS, _K * self.variation), self._minimum)
        self._backoff = 0

    def back_off(self) -> None:
        """The timer expired (RFC 6298 5.5). Without a new sample the longer timeout stays (section 3, Karn)."""
        if self.rto < self._maximum:
            self._backoff += 1

    def syn_was_lost(self) -> None:
        """Data begins after a SYN that was retransmitted (RFC 6298 5.7)."""
        self._base = min(max(self._base, _RTO_AFTER_LOST_SYN_NS), self._maximum)
        self._backoff = 0
