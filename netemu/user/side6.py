"""The IPv6 side of a user-mode network.

ICMPv6 errors quote the guest's packet as it was sent, as far as 1,280 octets hold it, obey RFC 4443 2.4 (e), and are limited to a
thousand a second (2.4 (f)). They come from the gateway, or from the address the guest had sent to where only a host can
know (a closed port).
"""

from __future__ import annotations

import errno
from collections import Counter
from ipaddress import IPv6Address
from typing import Final, cast

from netemu.stack.icmp6 import error_about6
from netemu.user.lan6 import Lan6
from netemu.user.options import UserOptions
from netemu.user.options6 import link_local
from netemu.user.side import Datagram6, Quotation, Side
from netemu.wire.address import IPAddress
from netemu.wire.icmpv6 import Icmpv6, Icmpv6Type
from netemu.wire.icmpv6 import Icmpv6ParameterProblemCode as ParameterProblemCode
from netemu.wire.icmpv6 import Icmpv6UnreachableCode as UnreachableCode
from netemu.wire.ipv6 import HEADER_LENGTH, IPv6, NextHeader

__all__ = ["Side6"]

# What a guest is told when the host says why not (RFC 4443 3.1). What is not here is ADDRESS.
_UNREACHABLE_CODES: Final = {
    errno.ECONNREFUSED: UnreachableCode.PORT,
    errno.ENETUNREACH: UnreachableCode.NO_ROUTE,
    errno.ENETDOWN: UnreachableCode.NO_ROUTE,
    errno.EACCES: UnreachableCode.PROHIBITED,
    errno.EPERM: UnreachableCode.PROHIBITED,
}
_NEXT_HEADER_OFFSET: Final = 6


class Side6(Side):
    """Sends to guests through `lan`."""

    family = 6
    loopback = IPv6Address("::1")
    header_length = HEADER_LENGTH

    def __init__(self, options: UserOptions, lan: Lan6, counters: Counter[str]) -> None:
        resolvers = (options.ipv6_dns, link_local(options.ipv6_dns))
        super().__init__(counters, options.ipv6_host, resolvers)
        self._net = options.ipv6_net
        self._mtu = options.mtu6
        self._lan = lan

    def is_own(self, address: IPAddress) -> bool:
        return self._lan.is_own(address)

    def add_own(self, address: IPAddress) -> None:
        self._lan.add_own(cast("IPv6Address", address))

    def is_local(self, address: IPAddress) -> bool:
        return address in self._net or address.is_link_local

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
        del dont_fragment  # routers never fragment, and whoever sends may (RFC 8200 5)
        ends = cast("tuple[IPv6Address, IPv6Address]", (source, destination))
        self._lan.send(IPv6(*ends, protocol, payload), now)

    def echo_reply(self, source: IPAddress, guest: IPAddress, identifier: int, sequence: int, payload: bytes, now: int) -> None:
        ends = cast("tuple[IPv6Address, IPv6Address]", (source, guest))
        self.datagram(*ends, NextHeader.ICMPV6, Icmpv6.echo_reply(identifier, sequence, payload).pack(*ends), now)

    def unreachable(self, quotation: Quotation, error: int, now: int, source: IPAddress | None = None) -> None:
        if error == errno.EMSGSIZE:
            self.error(quotation, Icmpv6.packet_too_big(self._mtu, quotation.octets), now, source)
        elif error == errno.ENOPROTOOPT:
            self.parameter_problem(quotation, ParameterProblemCode.NEXT_HEADER, _NEXT_HEADER_OFFSET, now)
        else:
            code = _UNREACHABLE_CODES.get(error, UnreachableCode.ADDRESS)
            if code is UnreachableCode.PORT and source is None:
                source = quotation.head.destination  # only a host knows its ports
            self.error(quotation, Icmpv6.unreachable(code, quotation.octets), now, source)

    def parameter_problem(self, quotation: Quotation, code: int, pointer: int, now: int) -> None:
        """The octet at `pointer` of a guest's packet is wrong, or not understood (RFC 4443 3.4)."""
        self.error(quotation, Icmpv6.parameter_problem(code, pointer, quotation.octets), now)

    def relay_error(self, quotation: Quotation, kind: int, code: int, now: int, source: IPAddress) -> None:
        rest = self._mtu if kind == Icmpv6Type.PACKET_TOO_BIG else 0
        self.error(quotation, Icmpv6(kind, code, rest, quotation.octets), now, source)

    def error(self, quotation: Quotation, message: Icmpv6, now: int, source: IPAddress | None = None) -> None:
        """Send `message` about what `quotation` quotes, where that is allowed; from the gateway unless `source` is given."""
        head, sender = cast("tuple[Datagram6, IPv6Address]", (quotation.head, source or self.gateway))
        about = IPv6(head.source, head.destination, head.protocol, head.payload)
        packet = error_about6(about, sender, lambda _: message)
        if packet is None:
            self.counters["icmp-error-suppressed"] += 1
        elif not self._errors.take(now):
            self.counters["icmp-error-limited"] += 1
        else:
            self._lan.send(packet, now)
