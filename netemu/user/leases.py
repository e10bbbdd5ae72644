"""The DHCP server's lease table: which address of the pool belongs to whom, and until when (RFC 2131 4.3.1).

A record is kept for each address that was ever handed out, and never more records than the pool has addresses. A record whose time
is over, or which was released, stays as the memory of who had the address, so that the client gets the same one again; it gives way
when no address is left that nobody ever had, the longest idle first.

Some addresses may be settled: each is one hardware address's, whatever identifier its client sends, and nobody else's.

Clients are told apart by their client identifier, or by their hardware address if they send none (RFC 2131 4.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Generic, Literal, TypeVar, cast

from netemu.wire.address import IPAddress, MacAddress

__all__ = ["Lease", "LeaseSnapshot", "LeaseState", "LeaseTable"]

LeaseState = Literal["offered", "bound", "declined", "released", "expired"]

Address = TypeVar("Address", bound=IPAddress)

_HOLDING: Final = frozenset({"offered", "bound", "declined"})


@dataclass(frozen=True, slots=True)
class Lease(Generic[Address]):
    """One record. `client` is what tells the client apart; `expires` is in nanoseconds of the network's clock.

    In the states `offered`, `bound` and `declined` nobody else can have the address.
    """

    address: Address
    client: bytes
    mac: MacAddress
    state: LeaseState
    expires: int
    hostname: str | None = None

    @property
    def holds(self) -> bool:
        """The address is not free."""
        return self.state in _HOLDING


@dataclass(frozen=True, slots=True)
class LeaseSnapshot:
    """A record as it is saved; `remaining` nanoseconds are left of its time, none where that is over."""

    address: IPAddress
    client: bytes
    mac: MacAddress
    state: LeaseState
    remaining: int
    hostname: str | None


class LeaseTable(Generic[Address]):
    """The records of `pool`, and of the addresses `settled` by hardware address. Times are nanoseconds."""

    def __init__(self, pool: Sequence[Address], settled: Mapping[MacAddress, Address] | None = None) -> None:
        self._settled = dict(settled or {})
        self._pool = tuple(address for address in pool if address not in self._settled.values())
        self._leases: dict[Address, Lease[Address]] = {}

    def __iter__(self) -> Iterator[Lease[Address]]:
        return iter(tuple(self._leases.values()))

    def of_client(self, client: bytes) -> Lease[Address] | None:
        """The client's record, in whatever state but `declined`: an address it refused is not its own."""
        return next((lease for lease in self._leases.values() if lease.client == client and lease.state != "declined"), None)

    def available_to(self, client: bytes, mac: MacAddress, address: Address) -> bool:
        """Nobody but `client` holds `address`, and it is one that `mac` may have."""
        if mac in self._settled:
            return address == self._settled[mac]
        lease = self._leases.get(address)
        if lease is None or not lease.holds:
            return address in self._pool
        return lease.client == client and lease.state != "declined"

    def choose(self, client: bytes, mac: MacAddress, requested: Address | None) -> Address | None:
        """The address for a new client, in RFC 2131 4.3.1's order; None: the pool is exhausted.

        That is the one settled for it; then the one it has or had; then the one it asks for, if that is free; then one that
        nobody had; then the one that has been free for the longest time.
        """
        if mac in self._settled:
            return self._settled[mac]
        own = self.of_client(client)
        if own is not None:
            return own.address
        if requested is not None and self.available_to(client, mac, requested):
            return requested
        for address in self._pool:
            if address not in self._leases:
                return address
        idle = [lease for lease in self._leases.values() if not lease.holds]
        return min(idle, key=lambda lease: lease.expires).address if idle else None

    def put(self, lease: Lease[Address]) -> None:
        """Write `lease`; what its client had before is forgotten."""
        former = self.of_client(lease.client)
        if former is not None and former.address != lease.address:
            del self._leases[former.address]
        self._leases[lease.address] = lease

    def withdraw(self, client: bytes) -> None:
        """Forget an offer that the client did not take; a lease that it has stays."""
        lease = self.of_client(client)
        if lease is not None and lease.state == "offered":
            del self._leases[lease.address]

    def release(self, lease: Lease[Address], now: int) -> None:
        """The client gives its address back; the record remembers it."""
        self._leases[lease.address] = replace(lease, state="released", expires=now)

    def snapshot(self, now: int) -> tuple[LeaseSnapshot, ...]:
        """The records, in their order."""
        return tuple(
            LeaseSnapshot(lease.address, lease.client, lease.mac, lease.state, max(lease.expires - now, 0), lease.hostname)
            for lease in self
        )

    def restore(self, records: Iterable[LeaseSnapshot], now: int) -> None:
        """Put back the records of a table with the same pool."""
        for record in records:
            address = cast("Address", record.address)
            expires = now + record.remaining
            self._leases[address] = Lease(address, record.client, record.mac, record.state, expires, record.hostname)

    def deadline(self) -> int | None:
        """When the next record's time is over."""
        return min((lease.expires for lease in self._leases.values() if lease.holds), default=None)

    def expire(self, now: int) -> None:
        """An offer or a refusal whose time is over is forgotten, a lease is remembered."""
        for lease in self:
            if lease.holds and lease.expires <= now:
                if lease.state == "bound":
                    self._leases[lease.address] = replace(lease, state="expired")
                else:
                    del self._leases[lease.address]
