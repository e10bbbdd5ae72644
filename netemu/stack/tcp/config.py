"""What a connection may be told: the parameters of TCP, with the clause that gives each its default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from netemu.errors import LocalError

__all__ = ["MAXIMUM_WINDOW_SCALE", "MINIMUM_MSS", "TcpConfig"]

MAXIMUM_WINDOW_SCALE: Final = 14  # RFC 7323 2.3
MINIMUM_MSS: Final = 48
"""A peer that announces less is taken to mean this: 40 octets of options must leave room for some payload."""

_MILLISECOND: Final = 1_000_000
_SECOND: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class TcpConfig:
    """The parameters of one connection. Times are nanoseconds, sizes octets. Raises `LocalError` for what cannot work.

    Sizes and options:
    `mss`: announced, and the most that is sent whatever the peer announces (48..65535; RFC 9293 3.7.1).
    `default_mss`: of a peer that announces none: 536, or 1220 over IPv6 (RFC 9293 3.7.1, MUST-15).
    `segment_limit`: the largest payload of one emitted segment; None: what one frame holds. More is for a port that
    segments in hardware: such a segment's payload is cut later, in units of `TcpConnection.send_mss` less its options.
    `window_scale`: the shift offered, 0..14; None: do not offer it (RFC 7323 2). A sink should be many times 2^shift.
    `sack` (RFC 2018) and `timestamps` (RFC 7323 3) are offered when true.

    Sending:
    `initial_window`: in segments (RFC 6928 2).
    `nagle`: hold back short segments while data is unacknowledged (RFC 9293 3.7.4).
    `initial_rto_ns`, `min_rto_ns`, `max_rto_ns`: RFC 6298 2.1, 2.4, 2.5.
    `syn_retries`, `retries`: retransmissions of a SYN, or of anything else, before ETIMEDOUT: R2, which must be three
    minutes for a SYN (RFC 9293 3.8.3, MUST-23) and should be 100 s or more (SHLD-11).

    Receiving:
    `delayed_ack_ns`: less than 0.5 s (RFC 9293 3.8.6.3, MUST-40).
    `challenge_acks` in `challenge_interval_ns`: the throttle of RFC 5961 7.

    Ending:
    `keepalive_idle_ns`: None: no keep-alive (RFC 9293 3.8.4: off by default, at least 2 hours when on); then a probe
    each `keepalive_interval_ns`, and ETIMEDOUT after `keepalive_count` without an answer.
    `msl_ns`: TIME-WAIT lasts twice this (RFC 9293 3.4.2 proposes 2 minutes; 30 s as most systems do).
    """

    mss: int = 1460
    default_mss: int = 536
    segment_limit: int | None = None
    window_scale: int | None = 7
    sack: bool = True
    timestamps: bool = True
    initial_window: int = 10
    nagle: bool = False
    initial_rto_ns: int = 1 * _SECOND
    min_rto_ns: int = 1 * _SECOND
    max_rto_ns: int = 60 * _SECOND
    syn_retries: int = 7
    retries: int = 15
    delayed_ack_ns: int = 40 * _MILLISECOND
    challenge_acks: int = 10
    challenge_interval_ns: int = 5 * _SECOND
    keepalive_idle_ns: int | None = None
    keepalive_interval_ns: int = 75 * _SECOND
    keepalive_count: int = 9
    msl_ns: int = 30 * _SECOND

    def __post_init__(self) -> None:
        _require("mss", self.mss, MINIMUM_MSS, 0xFFFF)
        _require("default_mss", self.default_mss, MINIMUM_MSS, 0xFFFF)
        _require("segment_limit", self.segment_limit, MINIMUM_MSS, 0xFFFF)
        _require("window_scale", self.window_scale, 0, MAXIMUM_WINDOW_SCALE)
        _require("initial_window", self.initial_window, 1, 1000)
        _require("initial_rto_ns", self.initial_rto_ns, 1, self.max_rto_ns)
        _require("min_rto_ns", self.min_rto_ns, 1, self.max_rto_ns)
        _require("syn_retries", self.syn_retries, 0, 1000)
        _require("retries", self.retries, 0, 1000)
        _require("delayed_ack_ns", self.delayed_ack_ns, 0, _SECOND // 2 - 1)
        _require("challenge_acks", self.challenge_acks, 0, 1_000_000)
        _require("challenge_interval_ns", self.challenge_interval_ns, 1, 3600 * _SECOND)
        _require("keepalive_idle_ns", self.keepalive_idle_ns, 1, None)
        _require("keepalive_interval_ns", self.keepalive_interval_ns, 1, None)
        _require("keepalive_count", self.keepalive_count, 1, 1000)
        _require("msl_ns", self.msl_ns, 0, None)


def _require(name: str, value: int | None, lowest: int, highest: int | None) -> None:
    if value is None or (lowest <= value and (highest is None or value <= highest)):
        return
    allowed = f"{lowest} or more" if highest is None else f"{lowest}..{highest}"
    raise LocalError(f"TcpConfig.{name} is {value}: give {allowed}")
