"""Pings, and the three ways in which a ping beyond the gateway may end.

Linux lets a process ping without privilege if one of its groups is within net.ipv4.ping_group_range. A user-mode network that
forwards pings depends on it, and where it is refused the guest must be told: "works" and "correctly refused" are right, "wrongly
silent" (and an error that says something else) is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, Protocol, cast

from netemu.errors import LocalError
from netemu.guest.protocol import Guest, PingError, PingResult
from netemu.net.sockets import DEFAULT_TIMEOUT, Address
from netemu.wire.icmpv4 import IcmpType, UnreachableCode
from pytest_netemu.asserts.failure import failure, last_of_layer

__all__ = ["PingGroupRange", "PingVerdict", "assert_ping"]

_EVERYBODY: Final = (0, 2_147_483_647)
_NOBODY: Final = (1, 0)  # Linux's own default: the range is empty
_PROHIBITED: Final = (IcmpType.DESTINATION_UNREACHABLE, UnreachableCode.COMMUNICATION_PROHIBITED)  # RFC 1812 5.2.7.1

Outcome = Literal["works", "correctly refused", "wrongly refused", "wrongly silent"]


def assert_ping(
    guest: Guest,
    address: Address,
    *,
    outcome: Literal["reply", "error", "silence"] = "reply",
    count: int = 1,
    size: int = 56,
    ttl: int = 64,
    timeout: float = DEFAULT_TIMEOUT,
) -> PingResult:
    """`guest` pings `address`, and `outcome` is what comes of it; the other arguments are those of `Guest.ping`."""
    __tracebackhide__ = True
    result = guest.ping(address, count=count, size=size, ttl=ttl, timeout=timeout)
    if result.outcome != outcome:
        raise failure(
            f"{guest.name} pinged {address}: expected {outcome}, got {result.outcome}",
            [f"{result.received} of {result.sent} answered", *map(_error_text, result.errors)],
            around=last_of_layer("icmpv4"),
        )
    return result


@dataclass(frozen=True, slots=True)
class PingVerdict:
    """How a ping beyond the gateway ended. `recorded` counts the refusals the network noted meanwhile; None: it keeps no record."""

    outcome: Outcome
    result: PingResult
    recorded: int | None


class _Settable(Protocol):
    @property
    def groups(self) -> tuple[int, ...]: ...
    def set_ping_group_range(self, low: int, high: int) -> None: ...


class PingGroupRange:
    """Who may open ping sockets on a host that belongs to the test: a `SimHost`, or a private namespace.

    `recorded` counts the pings that the user networks have noted as refused so far; None if they keep no record.
    """

    def __init__(self, host: object, recorded: Callable[[], int | None] = lambda: None) -> None:
        self._host = _settable(host)
        self._recorded = recorded

    @property
    def members(self) -> tuple[int, ...]:
        """The groups of the process that runs the user network."""
        return self._host.groups

    def set(self, low: int, high: int) -> None:
        """Grant ping sockets to groups `low` to `high`; nobody if `low` is the larger."""
        self._host.set_ping_group_range(low, high)

    def grant(self) -> None:
        """Grant ping sockets to everybody."""
        self.set(*_EVERYBODY)

    def deny(self) -> None:
        """Grant ping sockets to nobody."""
        self.set(*_NOBODY)

    def ping(self, guest: Guest, address: Address, *, timeout: float = DEFAULT_TIMEOUT) -> PingVerdict:
        """Ping beyond the gateway and say how it ended; a refusal is correct if it is told with code 13, and noted if any is."""
        before = self._recorded()
        result = guest.ping(address, timeout=timeout)
        after = self._recorded()
        recorded = None if before is None or after is None else after - before
        if result.outcome == "reply":
            outcome: Outcome = "works"
        elif result.outcome == "silence":
            outcome = "wrongly silent"
        else:
            told = any((error.type, error.code) == _PROHIBITED for error in result.errors)
            outcome = "correctly refused" if told and recorded != 0 else "wrongly refused"
        return PingVerdict(outcome, result, recorded)

    def assert_ping(self, guest: Guest, address: Address, outcome: Outcome, *, timeout: float = DEFAULT_TIMEOUT) -> PingVerdict:
        """Ping beyond the gateway; it must end with `outcome`."""
        __tracebackhide__ = True
        verdict = self.ping(guest, address, timeout=timeout)
        if verdict.outcome != outcome:
            record = "no record is kept" if verdict.recorded is None else f"{verdict.recorded} recorded"
            raise failure(
                f"{guest.name} pinged {address} beyond the gateway: expected {outcome!r}, it was {verdict.outcome!r}",
                [f"refusals: {record}", *map(_error_text, verdict.result.errors)],
                around=last_of_layer("icmpv4"),
            )
        return verdict


def _settable(host: object) -> _Settable:
    if hasattr(host, "set_ping_group_range"):
        return cast("_Settable", host)
    raise LocalError(
        f"{type(host).__name__} is this machine itself: its ping_group_range is not the test's to set; use a SimHost or a NetnsHost"
    )


def _error_text(error: PingError) -> str:
    return f"ICMP type {error.type}, code {error.code}, from {error.source or 'the local stack'}"
