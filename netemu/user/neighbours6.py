"""The guests that IPv6 packets are sent to, found by neighbour discovery (RFC 4861 7.2 and 7.3).

Theory of operation. A packet for a guest that is not known waits while the guest is solicited, three times in three seconds; it
is released by the answer, or given back. A guest is known by any message that tells its link-layer address. It is taken to
be reachable for 30 seconds after it answered; one that is used after that is asked again, by unicast, while packets still go to the
old address, and forgotten when it stays silent (7.3.3, with STALE, DELAY and PROBE as one state).

Like the ARP cache of `netemu.stack.neighbour` it only says what is to be done: `events()`.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import Final, TypeAlias

from netemu.net.clock import SECOND
from netemu.wire.address import MacAddress
from netemu.wire.ipv6 import IPv6

__all__ = ["Found", "Lost", "Neighbours6", "Solicit"]

# RFC 4861 10
_RETRANS_TIMER: Final = 1 * SECOND
_MAX_SOLICIT: Final = 3  # MAX_MULTICAST_SOLICIT and MAX_UNICAST_SOLICIT
_REACHABLE_TIME: Final = 30 * SECOND
_MAX_ENTRIES: Final = 1024
_MAX_PARKED: Final = 64  # packets for one neighbour; 7.2.2 wants one at least


@dataclass(frozen=True, slots=True)
class Solicit:
    """Ask for `target`; at `mac` where it was, or all who may have it if that is None."""

    target: IPv6Address
    mac: MacAddress | None


@dataclass(frozen=True, slots=True)
class Found:
    """The guest answered: these packets go to `mac`."""

    mac: MacAddress
    packets: tuple[IPv6, ...]


@dataclass(frozen=True, slots=True)
class Lost:
    """The guest did not answer: these packets cannot be sent."""

    packets: tuple[IPv6, ...]


Event: TypeAlias = Solicit | Found | Lost


@dataclass(slots=True)
class _Entry:
    mac: MacAddress | None = None
    confirmed: int = 0
    tries: int = 0
    retry_at: int = 0
    parked: deque[IPv6] = field(default_factory=lambda: deque(maxlen=_MAX_PARKED))


class Neighbours6:
    """The table. Times are nanoseconds."""

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
        self._entries: dict[IPv6Address, _Entry] = {}  # the longest unused first
        self._asking: dict[IPv6Address, _Entry] = {}
        self._events: list[Event] = []

    def resolve(self, packet: IPv6, now: int) -> MacAddress | None:
        """Where to send `packet`; None: it waits for `Found` or `Lost`. When too many wait the oldest is dropped."""
        address = packet.destination
        entry = self._entries.pop(address, None) or _Entry()
        self._make_room()
        self._entries[address] = entry
        if address not in self._asking and (entry.mac is None or now - entry.confirmed >= _REACHABLE_TIME):
            self._ask(address, entry, now)
        if entry.mac is None:
            if len(entry.parked) == _MAX_PARKED:
                self._counters["nd-parked-dropped"] += 1
            entry.parked.append(packet)
        return entry.mac

    def heard(self, address: IPv6Address, mac: MacAddress, now: int) -> None:
        """A guest told its link-layer address itself."""
        entry = self._entries.get(address)
        if entry is None:
            self._make_room()
            entry = self._entries[address] = _Entry()
        self._confirm(address, entry, mac, now)

    def answered(self, address: IPv6Address, mac: MacAddress | None, now: int) -> None:
        """A guest advertised itself; what was not asked for makes no entry (RFC 4861 7.2.5)."""
        entry = self._entries.get(address)
        if entry is not None and (mac or entry.mac) is not None:
            self._confirm(address, entry, mac or entry.mac, now)

    def events(self) -> list[Event]:
        """What is to be done since the last call, in order."""
        events, self._events = self._events, []
        return events

    def deadline(self) -> int | None:
        return min((entry.retry_at for entry in self._asking.values()), default=None)

    def expire(self, now: int) -> None:
        """Ask again, or give up, where no answer came in time."""
        for address, entry in [item for item in self._asking.items() if item[1].retry_at <= now]:
            if entry.tries < _MAX_SOLICIT:
                self._ask(address, entry, now)
            else:
                self._forget(address)

    def _ask(self, address: IPv6Address, entry: _Entry, now: int) -> None:
        entry.tries += 1
        entry.retry_at = now + _RETRANS_TIMER
        self._asking[address] = entry
        self._events.append(Solicit(address, entry.mac))

    def _confirm(self, address: IPv6Address, entry: _Entry, mac: MacAddress | None, now: int) -> None:
        self._asking.pop(address, None)
        entry.mac, entry.confirmed, entry.tries = mac, now, 0
        if entry.parked and mac is not None:
            self._events.append(Found(mac, tuple(entry.parked)))
            entry.parked.clear()

    def _make_room(self) -> None:
        if len(self._entries) >= _MAX_ENTRIES:
            self._counters["nd-evicted"] += 1
            self._forget(next(iter(self._entries)))

    def _forget(self, address: IPv6Address) -> None:
        self._asking.pop(address, None)
        entry = self._entries.pop(address)
        if entry.parked:
            self._events.append(Lost(tuple(entry.parked)))
