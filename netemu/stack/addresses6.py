"""The IPv6 addresses of an interface: their life from tentative to gone, and which of them speaks (RFC 4862, RFC 6724).

Theory of operation. A new address is TENTATIVE while duplicates are looked for: one solicitation for itself from nobody, and a
second of silence (RFC 4862 5.4, DupAddrDetectTransmits 1). Any advertisement for it, or somebody else's solicitation from
nobody, makes it a DUPLICATE, which is never used. Afterwards it is PREFERRED until its preferred lifetime ends, then
DEPRECATED, used only where nothing better is there, until its valid lifetime ends and it is removed (5.5.4).

`source_for` follows the rules of RFC 6724 5 that one interface can need: the address itself (1), scope (2), not deprecated (3), the
longest common prefix (8); of equal ones the older. `receives` says which multicast groups are listened to.

What is not done: temporary addresses (RFC 8981), optimistic detection (RFC 4429), home addresses, labels (rules 4, 6, 7).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv6Address
from typing import Final

from netemu.net.clock import SECOND
from netemu.wire.ipv6 import ALL_NODES, solicited_node

__all__ = ["FOR_EVER", "LOOPBACK6", "Address6", "AddressState", "AddressTable6"]

LOOPBACK6: Final = IPv6Address("::1")
FOR_EVER: Final = 0xFFFFFFFF  # a lifetime in seconds (RFC 4861 4.6.2)
_RETRANS_TIMER: Final = 1 * SECOND  # between the solicitation and the address's use (RFC 4862 5.4, RFC 4861 10)
_LINK_LOCAL: Final = 2  # scopes (RFC 4291 2.7)
_SITE_LOCAL: Final = 5
_GLOBAL: Final = 14


class AddressState(Enum):
    """RFC 4862 2."""

    TENTATIVE = auto()
    PREFERRED = auto()
    DEPRECATED = auto()
    DUPLICATE = auto()


@dataclass(slots=True)
class Address6:
    """One address. `preferred_until` and `valid_until` are nanoseconds of the clock, None: for ever."""

    address: IPv6Address
    prefix_length: int
    origin: str  # `link-local`, `slaac`, `dhcp6` or `static`
    state: AddressState = AddressState.TENTATIVE
    preferred_until: int | None = None
    valid_until: int | None = None
    checked_at: int | None = None  # when the detection of duplicates ends

    def live(self, now: int, preferred: int, valid: int) -> None:
        """Lifetimes in seconds from now, FOR_EVER included."""
        self.preferred_until = until(now, preferred)
        self.valid_until = until(now, valid)
        if self.state in (AddressState.PREFERRED, AddressState.DEPRECATED):
            self.state = AddressState.PREFERRED if preferred else AddressState.DEPRECATED


def until(now: int, lifetime: int) -> int | None:
    """When a lifetime of so many seconds ends; None: never."""
    return None if lifetime == FOR_EVER else now + lifetime * SECOND


class AddressTable6:
    """The addresses of one interface, in the order in which they came. ::1 is always one."""

    def __init__(self) -> None:
        self.addresses: list[Address6] = []
        self._asking: list[IPv6Address] = []
        self._groups: set[IPv6Address] = {ALL_NODES}

    def get(self, address: IPv6Address) -> Address6 | None:
        """What is known of `address`, in whatever state."""
        return next((entry for entry in self.addresses if entry.address == address), None)

    def add(self, entry: Address6, now: int) -> None:
        """Own this address when nobody objects within a second."""
        entry.checked_at = now + _RETRANS_TIMER
        self.addresses.append(entry)
        self._groups.add(solicited_node(entry.address))
        self._asking.append(entry.address)

    def remove(self, entry: Address6) -> None:
        """Own this address no more."""
        self.addresses.remove(entry)
        self._groups = {ALL_NODES, *(solicited_node(other.address) for other in self.addresses)}

    def clear(self) -> None:
        """Lose every address."""
        self.addresses.clear()
        self._asking.clear()
        self._groups = {ALL_NODES}

    def conflict(self, address: IPv6Address) -> bool:
        """Somebody else has `address`, or wants it; True if that ends our detection (RFC 4862 5.4.3, 5.4.4)."""
        entry = self.get(address)
        if entry is None or entry.state is not AddressState.TENTATIVE:
            return False
        entry.state, entry.checked_at = AddressState.DUPLICATE, None
        return True

    def solicitations(self) -> list[IPv6Address]:
        """The addresses to ask for now, from nobody."""
        asking, self._asking = self._asking, []
        return [address for address in asking if self.get(address) is not None]

    def is_usable(self, address: IPv6Address) -> bool:
        """`address` is ours and not tentative."""
        if address == LOOPBACK6:
            return True
        entry = self.get(address)
        return entry is not None and entry.state in _USABLE

    def receives(self, group: IPv6Address) -> bool:
        """The interface listens to this multicast group."""
        return group in self._groups

    def source_for(self, destination: IPv6Address) -> IPv6Address | None:
        """The address of ours that speaks to `destination` (RFC 6724 5); None if there is none."""
        if self.is_usable(destination):
            return destination
        usable = [entry for entry in self.addresses if entry.state in _USABLE]
        wanted = _scope(destination)

        def rank(entry: Address6) -> tuple[bool, int, bool, int]:
            scope = _scope(entry.address)
            fits = scope >= wanted  # rule 2: the smallest scope that is large enough, else the largest
            return (
                fits,
                -scope if fits else scope,
                entry.state is AddressState.PREFERRED,
                _common_prefix(entry.address, destination, entry.prefix_length),
            )

        best = max(usable, key=rank, default=None)
        return None if best is None else best.address

    def deadline(self) -> int | None:
        moments = (moment for entry in self.addresses for moment in (entry.checked_at, entry.preferred_until, entry.valid_until))
        return min((moment for moment in moments if moment is not None), default=None)

    def expire(self, now: int) -> None:
        """Run the timers that are due."""
        for entry in list(self.addresses):
            if _due(entry.checked_at, now):
                entry.checked_at, entry.state = None, AddressState.PREFERRED
            if _due(entry.preferred_until, now):
                entry.preferred_until = None
                if entry.state is AddressState.PREFERRED:
                    entry.state = AddressState.DEPRECATED
            if _due(entry.valid_until, now):
                self.remove(entry)


_USABLE: Final = frozenset({AddressState.PREFERRED, AddressState.DEPRECATED})


def _due(moment: int | None, now: int) -> bool:
    return moment is not None and moment <= now


def _scope(address: IPv6Address) -> int:
    """RFC 6724 3.1; ::1 counts as link-local."""
    if address.is_multicast:
        return address.packed[1] & 0xF
    if address.is_link_local or address.is_loopback:
        return _LINK_LOCAL
    return _SITE_LOCAL if address.is_site_local else _GLOBAL


def _common_prefix(ours: IPv6Address, theirs: IPv6Address, limit: int) -> int:
    """CommonPrefixLen (RFC 6724 2.2): the leading bits that are equal, of our prefix at most."""
    return min(limit, 128 - (int(ours) ^ int(theirs)).bit_length())
