"""A scripted DHCPv6 server on the wire, for checks of a guest's client.

    server = Server6(Wire6(netemu_wire))
    server.guest.dhcp6()
    server.expect(Dhcpv6MessageType.RENEW, within=600)

It answers each question of a client with `address` for the lifetimes it has, unless the question's type is among `silent`. What it
is about to say goes through `edit`, which may change it, or say several things or nothing. `asked` is what came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Final, cast

from netemu.errors import NetemuTimeoutError
from netemu.guest.protocol import Dhcp6Guest
from netemu.wire.dhcpv6 import (
    CLIENT_PORT,
    SERVER_PORT,
    Dhcpv6,
    Dhcpv6MessageType,
    Dhcpv6Option,
    IaAddress,
    IaNa,
    duid_ll,
    pack_addresses,
)
from netemu.wire.ipv6 import IPv6, NextHeader
from netemu.wire.udp import Udp
from pytest_netemu.packet import Packet
from pytest_netemu.wire6 import PREFIX, Wire6

__all__ = ["Server6", "with_option"]

_T: Final = Dhcpv6MessageType
_ANSWERS: Final = {
    _T.SOLICIT: _T.ADVERTISE,
    _T.REQUEST: _T.REPLY,
    _T.RENEW: _T.REPLY,
    _T.REBIND: _T.REPLY,
    _T.RELEASE: _T.REPLY,
    _T.DECLINE: _T.REPLY,
    _T.INFORMATION_REQUEST: _T.REPLY,
}


def with_option(message: Dhcpv6, code: int, value: bytes | None) -> Dhcpv6:
    """`message` with another value of an option, or without it where that is None."""
    kept = tuple(option for option in message.options if option[0] != code)
    return replace(message, options=kept if value is None else (*kept, (code, value)))


class Server6:
    """The server on `six`. Times are seconds; `t1` and `t2` those of the lease."""

    def __init__(self, six: Wire6) -> None:
        self.six = six
        self.guest = cast("Dhcp6Guest", six.guest)
        self.duid = duid_ll(six.mac)
        self.address = PREFIX[0x1000]
        self.t1, self.t2, self.preferred, self.valid = 1000, 1600, 2000, 3000
        self.silent: set[int] = set()
        self.edit: Callable[[Dhcpv6], Iterable[Dhcpv6]] = lambda message: [message]
        self.asked: list[Packet] = []
        six.wire.answer(Dhcpv6, self._answer)

    def questions(self, *kinds: int) -> list[Packet]:
        """What came of these types."""
        return [packet for packet in self.asked if packet[Dhcpv6].message_type in kinds]

    def expect(self, kind: int, *, within: float = 1.0) -> Packet:
        """The first message of this type that is still in the station's inbox."""
        __tracebackhide__ = True
        return self.six.wire.expect(Dhcpv6, within=within, message_type=kind)

    def in_vain(self, seconds: float) -> None:
        """Have the guest ask for an address for so long."""
        with suppress(NetemuTimeoutError):
            self.guest.dhcp6(timeout=seconds)

    def _answer(self, packet: Packet) -> None:
        question = packet[Dhcpv6]
        self.asked.append(packet)
        kind = _ANSWERS.get(_T(question.message_type))
        if kind is None or question.message_type in self.silent:
            return
        options = [(int(Dhcpv6Option.CLIENTID), question.client_id or b""), (int(Dhcpv6Option.SERVERID), self.duid)]
        options.append((Dhcpv6Option.DNS_SERVERS, pack_addresses(self.six.address)))
        for identity in question.ia_nas:
            lease = (IaAddress(self.address, self.preferred, self.valid),)
            options.append((Dhcpv6Option.IA_NA, IaNa(identity.iaid, self.t1, self.t2, lease).pack()))
        for said in self.edit(Dhcpv6(kind, question.transaction_id, tuple(options))):
            self._send(said, packet)

    def _send(self, message: Dhcpv6, question: Packet) -> None:
        source, client = self.six.link_local, question[IPv6].source
        datagram = Udp(SERVER_PORT, CLIENT_PORT, message.pack()).pack(source, client)
        self.six.send(IPv6(source, client, NextHeader.UDP, datagram))
