"""A DHCPv6 client: addresses by four messages, or parameters by two, as a machine without sockets (RFC 8415 18.2).

Theory of operation. The owner starts it, gives it the payloads that come to UDP port 546, and calls `expire` when `deadline`
has come. What it wants done are events, in order: messages to send to all servers, a lease to use, a lease to drop.

    STOPPED      start            SOLICITING   SOLICIT; the advertisements of a second are compared, preference 255 at once
    SOLICITING   ADVERTISE        REQUESTING   REQUEST to the best server
    REQUESTING   REPLY            BOUND        ten tries without one, or no address in it: SOLICITING
    BOUND        T1               RENEWING     RENEW to the server
    RENEWING     REPLY            BOUND        T2: REBINDING
    REBINDING    REPLY            BOUND        the addresses' lifetime ends: SOLICITING
    STOPPED      inform           INFORMING    INFORMATION-REQUEST
    INFORMING    REPLY            INFORMED     again when the refresh time is over (RFC 8415 21.23)
    any          release          RELEASING    RELEASE, DECLINE: five tries at most, whatever comes of them
    BOUND        declined         DECLINING    then SOLICITING

Retransmissions follow 15: each time twice as long, with a random tenth more or less, within the limits of `_SCHEDULES`. A message
is believed if its transaction and client identifier are ours and it has a server identifier (16.3, 16.10). T1 and T2 of zero are
half and four fifths of the preferred lifetime (21.4).

What is not done: rapid commit, CONFIRM, several identities, temporary addresses, prefix delegation, reconfiguration,
authentication, heeding SOL_MAX_RT and INF_MAX_RT (they are asked for), the random delay before the first message (18.2.1; it
spreads machines that power on together).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv6Address
from itertools import islice
from typing import Final, NamedTuple, TypeAlias

from netemu.net.clock import SECOND
from netemu.stack.addresses6 import FOR_EVER, until
from netemu.wire.address import MacAddress
from netemu.wire.dhcpv6 import Dhcpv6, Dhcpv6MessageType, Dhcpv6Option, Dhcpv6StatusCode, IaAddress, IaNa, duid_ll, pack_numbers
from netemu.wire.errors import WireError

__all__ = ["Bound6", "Dhcp6Client", "Dhcp6Event", "Dhcp6State", "Lease6", "Lost6", "SendDhcp6"]

_T = Dhcpv6MessageType
_IAID: Final = 1
_MAX_ADDRESSES: Final = 16  # of a lease; a server that gives more is not followed
_MOST_PREFERRED: Final = 255  # RFC 8415 18.2.1
_REFRESH_DEFAULT: Final = 86400  # IRT_DEFAULT, seconds (RFC 8415 7.6)
_WANTED: Final = (Dhcpv6Option.DNS_SERVERS, Dhcpv6Option.DOMAIN_LIST, Dhcpv6Option.SOL_MAX_RT)
_WANTED_ALONE: Final = (  # of an INFORMATION-REQUEST (RFC 8415 18.2.6)
    Dhcpv6Option.DNS_SERVERS,
    Dhcpv6Option.DOMAIN_LIST,
    Dhcpv6Option.INFORMATION_REFRESH_TIME,
    Dhcpv6Option.INF_MAX_RT,
)
_ELAPSED_UNIT: Final = SECOND // 100  # RFC 8415 21.9
_ELAPSED_LIMIT: Final = 0xFFFF


class _Schedule(NamedTuple):
    """RFC 8415 7.6 and 15: first timeout and largest, nanoseconds; tries, 0: without end."""

    first: int
    most: int
    tries: int = 0


_SCHEDULES: Final = {
    _T.SOLICIT: _Schedule(1 * SECOND, 3600 * SECOND),
    _T.REQUEST: _Schedule(1 * SECOND, 30 * SECOND, 10),
    _T.RENEW: _Schedule(10 * SECOND, 600 * SECOND),
    _T.REBIND: _Schedule(10 * SECOND, 600 * SECOND),
    _T.INFORMATION_REQUEST: _Schedule(1 * SECOND, 3600 * SECOND),
    _T.RELEASE: _Schedule(1 * SECOND, 3600 * SECOND, 4),
    _T.DECLINE: _Schedule(1 * SECOND, 3600 * SECOND, 4),
}


class Dhcp6State(Enum):
    """Where the client is; see the table above."""

    STOPPED = auto()
    SOLICITING = auto()
    REQUESTING = auto()
    BOUND = auto()
    RENEWING = auto()
    REBINDING = auto()
    RELEASING = auto()
    DECLINING = auto()
    INFORMING = auto()
    INFORMED = auto()


_S = Dhcp6State
_MESSAGES: Final = {
    _S.SOLICITING: _T.SOLICIT,
    _S.REQUESTING: _T.REQUEST,
    _S.RENEWING: _T.RENEW,
    _S.REBINDING: _T.REBIND,
    _S.RELEASING: _T.RELEASE,
    _S.DECLINING: _T.DECLINE,
    _S.INFORMING: _T.INFORMATION_REQUEST,
}
_TO_ONE_SERVER: Final = frozenset({_S.REQUESTING, _S.RENEWING, _S.RELEASING, _S.DECLINING})
_AFTERWARDS: Final = {_S.RELEASING: _S.STOPPED, _S.DECLINING: _S.SOLICITING}
_CONFIGURED: Final = frozenset({_S.BOUND, _S.RENEWING, _S.REBINDING})


@dataclass(frozen=True, slots=True)
class Lease6:
    """What a DHCPv6 server gave: addresses with their lifetimes, or parameters only. Durations are seconds, as on the wire."""

    addresses: tuple[IaAddress, ...]
    server: bytes
    renewal_time: int | None = None
    rebinding_time: int | None = None
    dns: tuple[IPv6Address, ...] = ()
    search: tuple[str, ...] = ()
    refresh_time: int | None = None

    @property
    def address(self) -> IPv6Address | None:
        """The first address; None where only parameters were asked for."""
        return self.addresses[0].address if self.addresses else None


@dataclass(frozen=True, slots=True)
class SendDhcp6:
    """Send `message` from port 546 to port 547 of all servers (RFC 8415 7.1, 14)."""

    message: Dhcpv6


@dataclass(frozen=True, slots=True)
class Bound6:
    """Use this lease: it is new, or its lifetimes are."""

    lease: Lease6


@dataclass(frozen=True, slots=True)
class Lost6:
    """Stop using this lease: `reason` is `expired`, `refused`, `declined`, `released` or `restarted`."""

    lease: Lease6
    reason: str


Dhcp6Event: TypeAlias = SendDhcp6 | Bound6 | Lost6


class Dhcp6Client:
    """One interface's client. `getrandbits` gives transaction identifiers and spreads retransmissions.

    `counters`: `dhcp6-malformed`, `dhcp6-not-ours` (transaction, identifier or type), `dhcp6-refused` (a status other than
    success, or no address).
    """

    def __init__(self, mac: MacAddress, getrandbits: Callable[[int], int]) -> None:
        self.state = Dhcp6State.STOPPED
        self.lease: Lease6 | None = None
        self.counters: Counter[str] = Counter()
        self._duid = duid_ll(mac)
        self._getrandbits = getrandbits
        self._events: list[Dhcp6Event] = []
        self._transaction = 0
        self._began = 0
        self._tries = 0
        self._timeout = 0
        self._due: int | None = None
        self._rebind_at = 0
        self._expires_at: int | None = None
        self._offer: tuple[int, Dhcpv6] | None = None  # the best preference so far
        self._chosen: tuple[bytes, tuple[IaAddress, ...]] = (b"", ())  # server, and the addresses to ask for

    # What the owner tells.

    def start(self, now: int) -> None:
        """Ask for an address; a lease in use is dropped."""
        self._lose("restarted")
        self._enter(_S.SOLICITING, now)

    def inform(self, now: int) -> None:
        """Ask for parameters alone; a lease in use is dropped."""
        self._lose("restarted")
        self._enter(_S.INFORMING, now)

    def release(self, now: int) -> None:
        """Give the addresses back; they are not used from here on."""
        if self.lease is not None and self.lease.addresses:
            self._chosen = (self.lease.server, self.lease.addresses)
            self._lose("released")
            self._enter(_S.RELEASING, now)

    def declined(self, now: int) -> None:
        """Somebody on the link has an address of the lease (RFC 8415 18.2.8)."""
        if self.lease is not None:
            self._chosen = (self.lease.server, self.lease.addresses)
            self._lose("declined")
            self._enter(_S.DECLINING, now)

    def events(self) -> list[Dhcp6Event]:
        """What is to be done since the last call, in order."""
        events, self._events = self._events, []
        return events

    def deadline(self) -> int | None:
        return self._due

    def expire(self, now: int) -> None:
        """Send again, or go on to the next state, when that is due."""
        if self._due is None or self._due > now:
            return
        if self.state is _S.SOLICITING and self._offer is not None:
            self._choose(self._offer[1], now)
        elif self.state is _S.BOUND:
            self._enter(_S.RENEWING, now)
        elif self.state is _S.INFORMED:
            self._enter(_S.INFORMING, now)
        elif self.state is _S.RENEWING and now >= self._rebind_at:
            self._enter(_S.REBINDING, now)
        elif self.state in _CONFIGURED and self._expires_at is not None and now >= self._expires_at:
            self._lose("expired")
            self._enter(_S.SOLICITING, now)
        else:
            self._again(now)

    def receive(self, payload: bytes, now: int) -> None:
        """A datagram for port 546."""
        try:
            message = Dhcpv6.parse(payload)
        except WireError:
            self.counters["dhcp6-malformed"] += 1
            return
        expected = _T.ADVERTISE if self.state is _S.SOLICITING else _T.REPLY
        ours = message.transaction_id == self._transaction and message.client_id == self._duid
        if self.state not in _MESSAGES or message.message_type != expected or not ours or not message.server_id:
            self.counters["dhcp6-not-ours"] += 1
        elif self.state in _AFTERWARDS:
            self._enter(_AFTERWARDS[self.state], now)
        elif self.state is _S.INFORMING:
            self._informed(message, now)
        elif not _addresses(message) or _failed(message):
            self.counters["dhcp6-refused"] += 1
            self._refused(now)
        elif self.state is _S.SOLICITING:
            self._advertised(message, now)
        else:
            self._bind(message, now)

    # The machine.

    def _enter(self, state: Dhcp6State, now: int) -> None:
        self.state = state
        self._due = None
        if state in _MESSAGES:
            self._transaction = self._getrandbits(24)
            self._began, self._tries, self._timeout, self._offer = now, 0, 0, None
            self._again(now)

    def _again(self, now: int) -> None:
        """Send the state's message (again), until its tries are used up."""
        kind = _MESSAGES[self.state]
        schedule = _SCHEDULES[kind]
        if schedule.tries and self._tries == schedule.tries:
            self._enter(_AFTERWARDS.get(self.state, _S.SOLICITING), now)
            return
        self._tries += 1
        self._events.append(SendDhcp6(self._message(kind, now)))
        self._timeout = self._next_timeout(kind, schedule)
        self._due = now + self._timeout
        if self.state in (_S.RENEWING, _S.REBINDING):
            limit = self._rebind_at if self.state is _S.RENEWING else self._expires_at
            self._due = self._due if limit is None else min(self._due, limit)

    def _next_timeout(self, kind: Dhcpv6MessageType, schedule: _Schedule) -> int:
        """RFC 8415 15; RAND of the first SOLICIT is above zero (18.2.1)."""
        spread = self._getrandbits(16)  # 0 to 65,535 for -0.1 to 0.1
        if not self._timeout:
            strict = kind is _T.SOLICIT
            return schedule.first + (schedule.first * (spread + 1) // 655_360 if strict else self._tenth(schedule.first, spread))
        timeout = 2 * self._timeout + self._tenth(self._timeout, spread)
        return timeout if timeout <= schedule.most else schedule.most + self._tenth(schedule.most, spread)

    def _tenth(self, timeout: int, spread: int) -> int:
        return timeout * (spread - 32_768) // 327_680

    def _message(self, kind: Dhcpv6MessageType, now: int) -> Dhcpv6:
        elapsed = min((now - self._began) // _ELAPSED_UNIT, _ELAPSED_LIMIT)
        options = [(int(Dhcpv6Option.CLIENTID), self._duid), (int(Dhcpv6Option.ELAPSED_TIME), elapsed.to_bytes(2, "big"))]
        server, addresses = self._chosen
        if self.state in _TO_ONE_SERVER:
            options.append((Dhcpv6Option.SERVERID, server))
        if kind is not _T.INFORMATION_REQUEST:
            identity = IaNa(_IAID, addresses=() if kind is _T.SOLICIT else addresses)
            options.append((Dhcpv6Option.IA_NA, identity.pack()))
        if kind not in (_T.RELEASE, _T.DECLINE):
            wanted = _WANTED_ALONE if kind is _T.INFORMATION_REQUEST else _WANTED
            options.append((Dhcpv6Option.ORO, pack_numbers(*wanted)))
        return Dhcpv6(kind, self._transaction, tuple(options))

    def _advertised(self, message: Dhcpv6, now: int) -> None:
        preference = message.preference or 0
        if self._offer is None or preference > self._offer[0]:
            self._offer = (preference, message)
        if preference == _MOST_PREFERRED or self._tries > 1:
            self._choose(self._offer[1], now)

    def _choose(self, advertisement: Dhcpv6, now: int) -> None:
        self._chosen = (advertisement.server_id or b"", _addresses(advertisement))
        self._enter(_S.REQUESTING, now)

    def _refused(self, now: int) -> None:
        """No address is to be had from this server (RFC 8415 18.2.9, 18.2.10)."""
        if self.state is _S.REQUESTING:
            self._enter(_S.SOLICITING, now)
        elif self.state in _CONFIGURED:
            self._lose("refused")
            self._enter(_S.SOLICITING, now)

    def _bind(self, message: Dhcpv6, now: int) -> None:
        identity = next(found for found in message.ia_nas if found.iaid == _IAID)
        addresses = _addresses(message)
        preferred = min(each.preferred_lifetime for each in addresses)
        valid = max(each.valid_lifetime for each in addresses)
        t1, t2 = identity.t1 or preferred // 2, identity.t2 or preferred * 4 // 5
        server = message.server_id or b""
        self.lease = Lease6(addresses, server, t1, t2, message.dns_servers, message.domain_list)
        self._chosen = (server, addresses)
        self._enter(_S.BOUND, now)
        self._due = until(now, FOR_EVER if preferred == FOR_EVER else min(t1, valid))
        self._rebind_at = now + t2 * SECOND
        self._expires_at = until(now, valid)
        self._events.append(Bound6(self.lease))

    def _informed(self, message: Dhcpv6, now: int) -> None:
        value = message.value(Dhcpv6Option.INFORMATION_REFRESH_TIME)
        refresh = int.from_bytes(value, "big") if value else _REFRESH_DEFAULT
        server = message.server_id or b""
        self.lease = Lease6((), server, dns=message.dns_servers, search=message.domain_list, refresh_time=refresh)
        self._enter(_S.INFORMED, now)
        self._due = until(now, max(refresh, 600))  # IRT_MINIMUM (RFC 8415 7.6)
        self._events.append(Bound6(self.lease))

    def _lose(self, reason: str) -> None:
        if self.lease is not None:
            self._events.append(Lost6(self.lease, reason))
            self.lease = None


def _addresses(message: Dhcpv6) -> tuple[IaAddress, ...]:
    """The addresses that can be used of our identity, which is ignored when its T1 is behind its T2 (RFC 8415 21.4)."""
    found = (identity for identity in message.ia_nas if identity.iaid == _IAID and not identity.t1 > identity.t2 > 0)
    usable = (each for identity in found for each in identity.addresses if 0 < each.valid_lifetime >= each.preferred_lifetime)
    return tuple(islice(usable, _MAX_ADDRESSES))


def _failed(message: Dhcpv6) -> bool:
    """The message, or our identity in it, says that it did not work."""
    statuses = [message.status, *(identity.status for identity in message.ia_nas if identity.iaid == _IAID)]
    return any(status is not None and status.code != Dhcpv6StatusCode.SUCCESS for status in statuses)
