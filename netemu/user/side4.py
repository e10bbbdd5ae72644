"""The IPv4 side of a user-mode network.

ICMP errors quote the guest's datagram as it was sent, obey RFC 1122 3.2.2, and are limited to a thousand a second (RFC 1812
4.3.2.8). They come from the gateway, or from the address the guest had sent to where only a host can know (a closed port).
"""

from __future__ import annotations

import errno
from collections import Counter
from ipaddress import IPv4Address
from typing import Final, cast

from netemu.stack.icmp import error_about
from netemu.user.lan import Lan
from netemu.user.options import UserOptions
from netemu.user.side import Quotation, Side
from netemu.wire.address import IPAddress
from netemu.wire.icmpv4 import Icmpv4, UnreachableCode
from netemu.wire.ipv4 import MINIMUM_HEADER_LENGTH, IPv4, Protocol

__all__ = ["Side4"]

# What a guest is told when the host says why not (RFC 792; code 13 RFC 1812 5.2.7.1). What is not here is HOST.
_UNREACHABLE_CODES: Final = {
    errno.ECONNREFUSED: UnreachableCode.PORT,
    errno.ENETUNREACH: UnreachableCode.NET,
    errno.ENETDOWN: UnreachableCode.NET,
    errno.EHOSTUNREACH: UnreachableCode.HOST,
    errno.EMSGSIZE: UnreachableCode.FRAGMENTATION_NEEDED,
    errno.ENOPROTOOPT: UnreachableCode.PROTOCOL,
    errno.EACCES: UnreachableCode.COMMUNICATION_PROHIBITED,
    errno.EPERM: UnreachableCode.COMMUNICATION_PROHIBITED,
}


class Side4(Side):
    """Sends to guests through `lan`."""

    family = 4
    loopback = IPv4Address("127.0.0.1")
    header_length = MINIMUM_HEADER_LENGTH

    def __init__(self, options: UserOptions, lan: Lan, counters: Counter[str]) -> None:
        super().__init__(counters, options.host, () if options.disable_dns else (options.dns,))
        self._net = options.net
        self._mtu = options.mtu
        self._lan = lan

    def is_own(self, address: IPAddress) -> bool:
        return self._lan.is_own(address)

    def add_own(self, address: IPAddress) -> None:
        self._lan.add_own(address)

    def is_local(self, address: IPAddress) -> bool:
        return address in self._net

    def datagram(
        self,
        source: IPAddress,
        destination: IPAddress,
        protocol: int,
        payload: bytes,
        now: int,
        *,
        dont_fragment: bool = False,
    ) -> None:
        ends = cast("tuple[IPv4Address, IPv4Address]", (source, destination))
        self._lan.datagram(*ends, protocol, payload, now, dont_fragment=dont_fragment)

    def echo_reply(self, source: IPAddress, guest: IPAddress, identifier: int, sequence: int, payload: bytes, now: int) -> None:
        self.datagram(source, guest, Protocol.ICMP, Icmpv4.echo_reply(identifier, sequence, payload).pack(), now)

    def unreachable(self, quotation: Quotation, error: int, now: int, source: IPAddress | None = None) -> None:
        code = _UNREACHABLE_CODES.get(error, UnreachableCode.HOST)
        if code is UnreachableCode.PORT and source is None:
            source = quotation.head.destination  # only a host knows its ports
        mtu = self._mtu if code is UnreachableCode.FRAGMENTATION_NEEDED else 0
        self.error(quotation, Icmpv4.unreachable(code, quotation.octets, mtu), now, source)

    def relay_error(self, quotation: Quotation, kind: int, code: int, now: int, source: IPAddress) -> None:
        self.error(quotation, Icmpv4(kind, code, 0, quotation.octets), now, source)

    def error(self, quotation: Quotation, message: Icmpv4, now: int, source: IPAddress | None = None) -> None:
        """Send `message` about what `quotation` quotes, where that is allowed; from the gateway unless `source` is given."""
        head, sender = cast("tuple[IPv4, IPv4Address]", (quotation.head, source or self.gateway))
        packet = error_about(head, sender, lambda _: message, identification=self._lan.next_identification())
        if packet is None:
            self.counters["icmp-error-suppressed"] += 1
        elif not self._errors.take(now):
            self.counters["icmp-error-limited"] += 1
        else:
            self._lan.send(packet, now)
