"""Pinging through a ping socket, whoever opened it: a guest's stack here, the operating system, or a guest's behind its agent.

Each request follows the answer to the one before, or comes a second later, as ping(8) with `-A` does it. Silence ends at
the deadline.
"""

from __future__ import annotations

import errno

from netemu.errors import HostError, LocalError
from netemu.guest.protocol import PingError, PingResult
from netemu.io.host import PingSocket
from netemu.net.clock import SECOND
from netemu.net.loop import Loop
from netemu.stack.echo import EchoSocket
from netemu.wire.address import Family, IPAddress
from netemu.wire.fields import ANY_IPV4
from netemu.wire.icmpv4 import IcmpType, UnreachableCode
from netemu.wire.icmpv6 import Icmpv6Type, Icmpv6UnreachableCode

__all__ = ["ping", "refused"]

_INTERVAL = 1 * SECOND
_LARGEST: dict[Family, int] = {4: 65_507, 6: 65_527}  # octets: 65,535 without ICMP's header, and for IPv4 without its own

# The ICMP errors that say what the local stack says by an errno; the first is that of every other errno.
_REFUSALS: dict[Family, dict[int, tuple[int, int]]] = {
    4: {
        errno.ENETUNREACH: (IcmpType.DESTINATION_UNREACHABLE, UnreachableCode.NET),
        errno.EHOSTUNREACH: (IcmpType.DESTINATION_UNREACHABLE, UnreachableCode.HOST),
        errno.EMSGSIZE: (IcmpType.DESTINATION_UNREACHABLE, UnreachableCode.FRAGMENTATION_NEEDED),
    },
    6: {
        errno.ENETUNREACH: (Icmpv6Type.DESTINATION_UNREACHABLE, Icmpv6UnreachableCode.NO_ROUTE),
        errno.EHOSTUNREACH: (Icmpv6Type.DESTINATION_UNREACHABLE, Icmpv6UnreachableCode.ADDRESS),
        errno.EMSGSIZE: (Icmpv6Type.PACKET_TOO_BIG, 0),
    },
}


def refused(error: HostError, family: Family = 4) -> PingError:
    """What a refusal of the local stack would be as an ICMP error of this family."""
    known = _REFUSALS[family]
    return PingError(*known.get(error.errno or 0, known[errno.ENETUNREACH]), None)


def ping(
    loop: Loop,
    socket: PingSocket | EchoSocket,
    destination: IPAddress,
    *,
    own: IPAddress | None,
    count: int,
    size: int,
    ttl: int,
    deadline: int,
) -> PingResult:
    """Send `count` requests of `size` octets until `deadline` (nanoseconds); the loop is held by the caller.

    A number that no echo request can have is a `LocalError`.
    An error that comes from the sender itself (`own` address) has the source None. `socket` stays the caller's to close.
    """
    largest = _LARGEST[destination.version]
    if count < 1 or not 0 <= size <= largest or not 1 <= ttl <= 255:
        raise LocalError(f"ping with count={count}, size={size}, ttl={ttl}: count is 1 or more, size 0 to {largest}, ttl 1 to 255")
    payload = bytes(index & 0xFF for index in range(size))
    sent_at: list[int] = []
    rtts: dict[int, int] = {}
    errors: dict[int, PingError] = {}

    def replied(sequence: int, data: bytes, _source: IPAddress) -> None:
        if sequence < len(sent_at) and data == payload:
            rtts.setdefault(sequence, loop.now() - sent_at[sequence])

    def failed(icmp_type: int, code: int, reporter: IPAddress | None, sequence: int) -> None:
        errors.setdefault(sequence, PingError(icmp_type, code, None if reporter in (own, ANY_IPV4) else reporter))

    def settled() -> bool:
        return all(sequence in rtts or sequence in errors for sequence in range(len(sent_at)))

    socket.on_reply, socket.on_error = replied, failed
    for sequence in range(count):
        sent_at.append(loop.now())
        try:
            socket.send_echo(destination, sequence, payload, ttl)
        except HostError as error:
            errors[sequence] = refused(error, destination.version)
        last = sequence == count - 1
        loop.run_until(settled, deadline if last else min(deadline, loop.now() + _INTERVAL))
        if loop.now() >= deadline:
            break
    return PingResult(destination, len(sent_at), tuple(rtts.values()), tuple(errors.values()))
