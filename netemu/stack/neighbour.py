"""The neighbour cache: which MAC address an IPv4 neighbour has, and the packets that wait for the answer.

Theory of operation. `resolve` gives the MAC address of a neighbour that is known. For one that is not, it parks the packet and asks
by ARP: a broadcast request, again every second, three in all. The answer releases the parked packets, its absence gives
them back as `Unresolved`, so that their sockets learn EHOSTUNREACH. An entry is fresh for a minute after the neighbour was last
heard; one that is used after that is asked again by unicast and forgotten when it stays silent three times (RFC 1122 2.3.2.1,
method 2), while packets still go to the old address.

The cache knows nothing of its surroundings: who owns an address is asked through `owns`, and everything it wants done is an event,
in order, from `events()`. A guest's stack and a user-mode network use the same class; `Packet` is whatever they park.

Documents: RFC 826 (packet reception), RFC 1122 2.3.2 (expiry, flood prevention, packet queue), RFC 5227 2.4 (a packet from one
of our own addresses is a conflict). What is not done: proxy ARP, RARP.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, Generic, TypeAlias, TypeVar, cast

from netemu.net.clock import SECOND
from netemu.stack.deadlines import Deadlines
from netemu.stack.parking import Parking
from netemu.wire.address import BROADCAST_MAC, ZERO_MAC, IPAddress, MacAddress
from netemu.wire.arp import Arp, ArpOperation

__all__ = [
    "MAX_ENTRIES",
    "MAX_TRIES",
    "REACHABLE_TIME",
    "RETRANSMIT_TIME",
    "Conflict",
    "NeighbourCache",
    "NeighbourEvent",
    "NeighbourSnapshot",
    "Resolved",
    "SendArp",
    "Unresolved",
]

RETRANSMIT_TIME: Final = 1 * SECOND  # one request a second and destination at most (RFC 1122 2.3.2.1)
MAX_TRIES: Final = 3
REACHABLE_TIME: Final = 60 * SECOND  # "on the order of a minute" (RFC 1122 2.3.2.1)
MAX_ENTRIES: Final = 1024

Packet = TypeVar("Packet")


@dataclass(frozen=True, slots=True)
class SendArp:
    """Send this packet in a frame to `destination`."""

    arp: Arp

    @property
    def destination(self) -> MacAddress:
        """Broadcast while the target's hardware address is unknown (requests, probes, announcements)."""
        return BROADCAST_MAC if self.arp.target_mac == ZERO_MAC else self.arp.target_mac


@dataclass(frozen=True, slots=True)
class Resolved(Generic[Packet]):
    """The neighbour answered: these packets, oldest first, go to `mac`."""

    address: IPAddress
    mac: MacAddress
    packets: tuple[Packet, ...]


@dataclass(frozen=True, slots=True)
class Unresolved(Generic[Packet]):
    """The neighbour did not answer: these packets cannot be sent."""

    address: IPAddress
    packets: tuple[Packet, ...]


@dataclass(frozen=True, slots=True)
class Conflict:
    """Somebody at `mac` sent ARP in the name of `address`, which is ours."""

    address: IPv4Address
    mac: MacAddress


NeighbourEvent: TypeAlias = SendArp | Resolved[Packet] | Unresolved[Packet] | Conflict


@dataclass(frozen=True, slots=True)
class NeighbourSnapshot:
    """A neighbour that is known, as it is saved: `age` nanoseconds ago it was last heard."""

    address: IPAddress
    mac: MacAddress
    age: int


@dataclass(slots=True)
class _Entry:
    source: IPv4Address  # the sender address of our requests
    mac: MacAddress | None = None
    confirmed: int = 0
    tries: int = 0  # requests without an answer


class NeighbourCache(Generic[Packet]):
    """ARP for an interface with the address `mac`; `owns` says whether an IPv4 address is one of ours.

    `counters`: `arp-received`, `arp-ignored` (own or impossible sender, unknown operation), `arp-parked-dropped`,
    `arp-evicted`.
    """

    def __init__(self, mac: MacAddress, owns: Callable[[IPv4Address], bool]) -> None:
        self.mac = mac
        self.counters: Counter[str] = Counter()
        self._owns = owns
        self._entries: dict[IPv4Address, _Entry] = {}  # the longest unconfirmed first
        self._asking: Deadlines[IPv4Address] = Deadlines()
        self._parking: Parking[IPv4Address, Packet] = Parking()
        self._events: list[NeighbourEvent[Packet]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def lookup(self, address: IPv4Address) -> MacAddress | None:
        """The MAC address of `address` if it is known; asks nobody."""
        entry = self._entries.get(address)
        return entry.mac if entry else None

    def reachable(self, address: IPv4Address, now: int) -> tuple[MacAddress, int] | None:
        """The MAC address of `address` if it is known and need not be asked about yet, and when it must be unless it is heard."""
        entry = self._entries.get(address)
        if entry is None or entry.mac is None or now - entry.confirmed >= REACHABLE_TIME:
            return None
        return entry.mac, entry.confirmed + REACHABLE_TIME

    def resolve(self, address: IPv4Address, source: IPv4Address, packet: Packet, now: int) -> MacAddress | None:
        """Where to send `packet` for the neighbour `address`; None: it is parked until `Resolved` or `Unresolved`.

        `source` is the address of ours that asks. When too many packets wait, the oldest is dropped.
        """
        entry = self._entries.get(address)
        if entry is None:
            entry = self._create(address, source)
            self._ask(address, entry, now)
        elif entry.mac is not None:
            if now - entry.confirmed >= REACHABLE_TIME and not entry.tries:
                entry.source = source
                self._ask(address, entry, now)
            return entry.mac
        if self._parking.put(address, packet):
            self.counters["arp-parked-dropped"] += 1
        return None

    def receive(self, arp: Arp, now: int) -> None:
        """An ARP packet came in (RFC 826, packet reception)."""
        self.counters["arp-received"] += 1
        sender = arp.sender_ip
        if arp.sender_mac == self.mac or arp.sender_mac.is_multicast or arp.operation not in tuple(ArpOperation):
            self.counters["arp-ignored"] += 1
            return
        if self._owns(sender):
            self._events.append(Conflict(sender, arp.sender_mac))
            return
        for_us = self._owns(arp.target_ip)
        if sender.is_multicast or sender.is_loopback or sender.is_reserved:
            self.counters["arp-ignored"] += 1
            return
        if not sender.is_unspecified:  # a probe has no sender yet (RFC 5227 1.1)
            entry = self._entries.get(sender)
            if entry is None and for_us:
                entry = self._create(sender, arp.target_ip)
            if entry is not None:
                self._confirm(sender, entry, arp.sender_mac, now)
        if for_us and arp.operation == ArpOperation.REQUEST:
            self._events.append(SendArp(Arp(ArpOperation.REPLY, self.mac, arp.target_ip, arp.sender_mac, sender)))

    def announce(self, address: IPv4Address) -> None:
        """Tell everybody that `address` is here: a gratuitous request (RFC 5227 3)."""
        self._events.append(SendArp(Arp(ArpOperation.REQUEST, self.mac, address, ZERO_MAC, address)))

    def snapshot(self, now: int) -> tuple[NeighbourSnapshot, ...]:
        """Those that are known, the longest unconfirmed first."""
        return tuple(
            NeighbourSnapshot(address, entry.mac, now - entry.confirmed)
            for address, entry in self._entries.items()
            if entry.mac is not None
        )

    def restore(self, known: Iterable[NeighbourSnapshot], source: IPv4Address, now: int) -> None:
        """Know these again, in their order; `source` is the address of ours that asks for them."""
        for each in known:
            self._create(cast("IPv4Address", each.address), source)
            self._entries[cast("IPv4Address", each.address)] = _Entry(source, each.mac, now - each.age)

    def flush(self) -> None:
        """Forget everything; packets that wait are lost (the interface lost its address)."""
        self._entries.clear()
        self._asking.clear()
        self._parking.clear()
        self._events.clear()

    def events(self) -> list[NeighbourEvent[Packet]]:
        """What has happened and what is to be sent since the last call, in order."""
        events, self._events = self._events, []
        return events

    def deadline(self) -> int | None:
        return self._asking.first()

    def expire(self, now: int) -> None:
        """Ask again, or give up, where no answer came in time."""
        for address in self._asking.due(now):
            entry = self._entries[address]
            if entry.tries < MAX_TRIES:
                self._ask(address, entry, now)
            else:
                self._forget(address, entry)

    def _ask(self, address: IPv4Address, entry: _Entry, now: int) -> None:
        entry.tries += 1
        self._asking.set(address, now + RETRANSMIT_TIME)
        self._events.append(SendArp(Arp(ArpOperation.REQUEST, self.mac, entry.source, entry.mac or ZERO_MAC, address)))

    def _create(self, address: IPv4Address, source: IPv4Address) -> _Entry:
        if len(self._entries) >= MAX_ENTRIES:
            oldest = next(iter(self._entries))
            self.counters["arp-evicted"] += 1
            self._forget(oldest, self._entries[oldest])
        entry = self._entries[address] = _Entry(source)
        return entry

    def _confirm(self, address: IPv4Address, entry: _Entry, mac: MacAddress, now: int) -> None:
        del self._entries[address]
        self._entries[address] = entry
        self._asking.set(address, None)
        entry.mac, entry.confirmed, entry.tries = mac, now, 0
        packets = self._parking.take(address)
        if packets:
            self._events.append(Resolved(address, mac, packets))

    def _forget(self, address: IPv4Address, entry: _Entry) -> None:
        del self._entries[address]
        self._asking.set(address, None)
        if entry.mac is None:
            self._events.append(Unresolved(address, self._parking.take(address)))
