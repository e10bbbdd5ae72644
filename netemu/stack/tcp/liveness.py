"""Two small clocks of a connection: keep-alive (RFC 9293 3.8.4) and the throttle of challenge ACKs (RFC 5961 7)."""

from __future__ import annotations

from netemu.stack.tcp.config import TcpConfig

__all__ = ["KeepAlive", "Throttle"]


class KeepAlive:
    """When to probe an idle peer, and when to believe that it is gone. Does nothing unless configured."""

    __slots__ = ("_count", "_idle", "_interval", "_unanswered", "deadline")

    def __init__(self, config: TcpConfig) -> None:
        self._idle = config.keepalive_idle_ns
        self._interval = config.keepalive_interval_ns
        self._count = config.keepalive_count
        self._unanswered = 0
        self.deadline: int | None = None

    @property
    def dead(self) -> bool:
        """The last probe, too, had no answer in time."""
        return self._unanswered > self._count

    def heard(self, now: int) -> None:
        """A segment of this connection arrived."""
        self._unanswered = 0
        self.deadline = None if self._idle is None else now + self._idle

    def expire(self, now: int, *, outstanding: bool) -> bool:
        """True when a probe is due; with data outstanding the retransmission timer watches the peer instead."""
        if self.deadline is None or now < self.deadline:
            return False
        self.deadline = now + self._interval
        if outstanding:
            return False
        self._unanswered += 1
        return not self.dead

    def stop(self) -> None:
        self.deadline = None


class Throttle:
    """At most `limit` in any `interval_ns` that begins with the first of them."""

    __slots__ = ("_began", "_count", "_interval", "_limit")

    def __init__(self, limit: int, interval_ns: int) -> None:
        self._limit = limit
        self._interval = interval_ns
        self._began: int | None = None
        self._count = 0

    def allows(self, now: int) -> bool:
        """One more, now?"""
        if self._began is None or now - self._began >= self._interval:
            self._began = now
            self._count = 0
        self._count += 1
        return self._count <= self._limit
