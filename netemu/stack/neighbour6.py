"""The neighbour cache of IPv6: address resolution and neighbour unreachability detection (RFC 4861 7.2 and 7.3).

Theory of operation. `resolve` gives the MAC address of a neighbour that is known, and parks the packet for one that is not. An
entry goes through the states of RFC 4861 7.3.2:

    INCOMPLETE  asked by multicast, three times in three seconds; then the packets come back as `Unresolved`
    REACHABLE   answered within the reachable time (a random part of it, 6.3.2)
    STALE       known, and not asked before something is sent
    DELAY       something was sent; five seconds are left for an advertisement to come by itself
    PROBE       asked by unicast, three times; then the entry is forgotten

What it wants done is an event, in order, from `events()`; `Resolved` and `Unresolved` are those of the ARP cache, `neighbour`. The
interface around it checks packets, answers solicitations and detects duplicates (`addresses6`).

Documents: RFC 4861 7.2, 7.3, 10, appendix C. What is not done: hints of upper layers (7.3.1), anycast delay (7.2.7), proxies
(7.2.8), RFC 7048, RFC 6583.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv6Address
from typing import Final, Generic, TypeAlias, TypeVar, cast

from netemu.net.clock import MILLISECOND, SECOND
from netemu.stack.deadlines import Deadlines
from netemu.stack.neighbour import MAX_ENTRIES, NeighbourSnapshot, Resolved, Unresolved
from netemu.stack.parking import Parking
from netemu.wire.address import MacAddress

__all__ = ["NeighbourCache6", "NeighbourEvent6", "NeighbourState", "Solicit"]

# RFC 4861 10
MAX_MULTICAST_SOLICIT: Final = 3
MAX_UNICAST_SOLICIT: Final = 3
REACHABLE_TIME: Final = 30 * SECOND
RETRANS_TIMER: Final = 1 * SECOND
DELAY_FIRST_PROBE_TIME: Final = 5 * SECOND

Packet = TypeVar("Packet")


class NeighbourState(Enum):
    """RFC 4861 7.3.2."""

    INCOMPLETE = auto()
    REACHABLE = auto()
    STALE = auto()
    DELAY = auto()
    PROBE = auto()


_S = NeighbourState


@dataclass(frozen=True, slots=True)
class Solicit:
    """Ask for `target` in the name of `source`: at `mac`, or all who may have it if that is None."""

    target: IPv6Address
    source: IPv6Address
    mac: MacAddress | None


NeighbourEvent6: TypeAlias = Solicit | Resolved[Packet] | Unresolved[Packet]


@dataclass(slots=True)
class _Entry:
    source: IPv6Address
    state: NeighbourState
    mac: MacAddress | None = None
    is_router: bool = False
    tries: int = 0


class NeighbourCache6(Generic[Packet]):
    """The neighbours of one interface; `getrandbits` spreads the reachable time.

    `reachable_time` and `retrans_timer`, in nanoseconds, are what routers last advertised. `counters`: `nd-parked-dropped`,
    `nd-evicted`, `nd-unsolicited-unknown` (an advertisement about nobody we know).
    """

    def __init__(self, getrandbits: Callable[[int], int]) -> None:
        self.counters: Counter[str] = Counter()
        self.reachable_time = REACHABLE_TIME
        self.retrans_timer = RETRANS_TIMER
        self._getrandbits = getrandbits
        self._entries: dict[IPv6Address, _Entry] = {}  # the longest unused first
        self._due: Deadlines[IPv6Address] = Deadlines()  # when a state's time is over
        self._parking: Parking[IPv6Address, Packet] = Parking()
        self._events: list[NeighbourEvent6[Packet]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def state(self, address: IPv6Address) -> NeighbourState | None:
        """Where `address` is in 7.3.2; None: not known."""
        entry = self._entries.get(address)
        return entry.state if entry else None

    def lookup(self, address: IPv6Address) -> MacAddress | None:
        """The MAC address of `address` if it is known; asks nobody."""
        entry = self._entries.get(address)
        return entry.mac if entry else None

    def reachable(self, address: IPv6Address) -> MacAddress | None:
        """The MAC address of `address` if it is known and to use it changes nothing, as it does when the entry is stale."""
        entry = self._entries.get(address)
        return None if entry is None or entry.state is _S.STALE else entry.mac

    def resolve(self, address: IPv6Address, source: IPv6Address, packet: Packet, now: int) -> MacAddress | None:
        """Where to send `packet` for the neighbour `address`; None: it is parked until `Resolved` or `Unresolved`.

        `source` is the address of ours that asks. When too many packets wait, the oldest is dropped.
        """
        entry = self._entries.get(address)
        if entry is None:
            entry = self._create(address, _Entry(source, _S.INCOMPLETE))
            self._ask(address, entry, now)
        elif entry.state is _S.STALE:
            entry.source = source
            self._enter(address, entry, _S.DELAY, now + DELAY_FIRST_PROBE_TIME)
        if entry.mac is not None:
            return entry.mac
        if self._parking.put(address, packet):
            self.counters["nd-parked-dropped"] += 1
        return None

    def learn(self, address: IPv6Address, source: IPv6Address, mac: MacAddress, *, is_router: bool | None = None) -> None:
        """A solicitation, an advertisement of a router or a redirect told the MAC address of `address` (7.2.3, 6.3.4, 8.3).

        `source` is the address of ours that will ask for it; `is_router` None: it did not tell.
        """
        entry = self._entries.get(address) or self._create(address, _Entry(source, _S.STALE))
        if is_router is not None:
            entry.is_router = is_router
        if entry.mac != mac:
            self._enter(address, entry, _S.STALE, None)
            self._give(address, entry, mac)

    def advertised(
        self, address: IPv6Address, mac: MacAddress | None, now: int, *, solicited: bool, override: bool, is_router: bool
    ) -> bool:
        """A neighbour advertisement came (7.2.5); True if `address` was a router and is none any more."""
        entry = self._entries.get(address)
        if entry is None:
            self.counters["nd-unsolicited-unknown"] += 1
            return False
        if entry.state is _S.INCOMPLETE:
            if mac is None:
                return False
        elif not override and mac not in (None, entry.mac):
            if entry.state is _S.REACHABLE:
                self._enter(address, entry, _S.STALE, None)
            return False
        changed = mac not in (None, entry.mac)
        if solicited:
            self._enter(address, entry, _S.REACHABLE, now + self._reachable())
        elif changed:
            self._enter(address, entry, _S.STALE, None)
        was_router, entry.is_router = entry.is_router, is_router
        if mac is not None:
            self._give(address, entry, mac)
        return was_router and not is_router

    def snapshot(self) -> tuple[NeighbourSnapshot, ...]:
        """Those that are known, the longest unused first; how long ago each was heard is not kept."""
        return tuple(NeighbourSnapshot(address, entry.mac, 0) for address, entry in self._entries.items() if entry.mac is not None)

    def restore(self, known: Iterable[NeighbourSnapshot], source: IPv6Address) -> None:
        """Know these again, all of them STALE; `source` is the address of ours that asks for them."""
        for each in known:
            self.learn(cast("IPv6Address", each.address), source, each.mac)

    def flush(self) -> None:
        """Forget everything; packets that wait are lost."""
        self._entries.clear()
        self._due.clear()
        self._parking.clear()
        self._events.clear()

    def events(self) -> list[NeighbourEvent6[Packet]]:
        """What has happened and what is to be sent since the last call, in order."""
        events, self._events = self._events, []
        return events

    def deadline(self) -> int | None:
        return self._due.first()

    def expire(self, now: int) -> None:
        """Run the timers that are due."""
        for address in self._due.due(now):
            entry = self._entries[address]
            if entry.state is _S.REACHABLE:
                self._enter(address, entry, _S.STALE, None)
            elif entry.state is _S.DELAY:
                self._enter(address, entry, _S.PROBE, None)
                self._ask(address, entry, now)
            elif entry.tries < (MAX_MULTICAST_SOLICIT if entry.mac is None else MAX_UNICAST_SOLICIT):
                self._ask(address, entry, now)
            else:
                self._forget(address, entry)

    def _ask(self, address: IPv6Address, entry: _Entry, now: int) -> None:
        entry.tries += 1
        self._due.set(address, now + self.retrans_timer)
        self._events.append(Solicit(address, entry.source, entry.mac))

    def _enter(self, address: IPv6Address, entry: _Entry, state: NeighbourState, due: int | None) -> None:
        entry.state, entry.tries = state, 0
        self._due.set(address, due)

    def _give(self, address: IPv6Address, entry: _Entry, mac: MacAddress) -> None:
        entry.mac = mac
        packets = self._parking.take(address)
        if packets:
            self._events.append(Resolved(address, mac, packets))

    def _create(self, address: IPv6Address, entry: _Entry) -> _Entry:
        if len(self._entries) >= MAX_ENTRIES:
            oldest = next(iter(self._entries))
            self.counters["nd-evicted"] += 1
            self._forget(oldest, self._entries[oldest])
        self._entries[address] = entry
        return entry

    def _forget(self, address: IPv6Address, entry: _Entry) -> None:
        del self._entries[address]
        self._due.set(address, None)
        if entry.mac is None:
            self._events.append(Unresolved(address, self._parking.take(address)))

    def _reachable(self) -> int:
        """A random time from half to one and a half of the base (RFC 4861 6.3.2, MIN_ and MAX_RANDOM_FACTOR)."""
        return self.reachable_time // 2 + self._getrandbits(10) * self.reachable_time // 1024 // MILLISECOND * MILLISECOND
