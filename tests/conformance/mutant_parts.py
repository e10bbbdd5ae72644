"""What the tables of mutants have in common: addresses, conditions on layers, and ways to break code."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any

import pytest
from mutation import (
    change,
)

from netemu.net.clock import SECOND
from netemu.wire.address import BROADCAST_MAC, MacAddress
from netemu.wire.dhcpv4 import DhcpMessageType, DhcpOption, Dhcpv4
from netemu.wire.icmpv4 import IcmpType, Icmpv4
from netemu.wire.tcp import ACK, FIN, RST, SYN, Tcp
from pytest_netemu.packet import Packet

GATEWAY, DNS, GUEST = IPv4Address("10.0.2.2"), IPv4Address("10.0.2.3"), IPv4Address("10.0.2.15")
LOOPBACK, NOWHERE = IPv4Address("127.0.0.1"), IPv4Address(0)
ELSEWHERE = IPv4Address("192.0.2.1")
OTHER_MAC = MacAddress("52:54:00:00:00:99")
EVERYBODY = IPv4Address("255.255.255.255")
NETWORK_MAC = MacAddress(b"\x52\x55" + GATEWAY.packed)
HOUR = 3600 * SECOND


DISCOVER, OFFER, REQUEST = DhcpMessageType.DISCOVER, DhcpMessageType.OFFER, DhcpMessageType.REQUEST
GRANT, NAK, RELEASE, DECLINE = DhcpMessageType.ACK, DhcpMessageType.NAK, DhcpMessageType.RELEASE, DhcpMessageType.DECLINE
UNREACHABLE, EXCEEDED, REPLY, ECHO = (
    IcmpType.DESTINATION_UNREACHABLE,
    IcmpType.TIME_EXCEEDED,
    IcmpType.ECHO_REPLY,
    IcmpType.ECHO_REQUEST,
)
TO_ALL = {"destination": BROADCAST_MAC}


def icmp(*types: int) -> Callable[[Icmpv4], bool]:
    return lambda message: message.type in types


def flags(value: int, mask: int = SYN | FIN | RST | ACK) -> Callable[[Tcp], bool]:
    return lambda segment: segment.flags & mask == value


def dhcp_kind(*kinds: DhcpMessageType) -> Callable[[Dhcpv4], bool]:
    return lambda message: message.message_type in kinds


def is_icmp_about(protocol: int) -> Callable[[Packet], bool]:
    """An ICMP error that quotes a datagram of that protocol."""
    return lambda packet: Icmpv4 in packet and packet[Icmpv4].is_error and packet[Icmpv4].payload[9] == protocol


def has(layer: type) -> Callable[[Packet], bool]:
    return lambda packet: layer in packet


def with_options(**changes: bytes | None) -> Callable[[Dhcpv4], dict[int, bytes]]:
    """A DHCP message's options with some of them (by the names of `DhcpOption`) changed, or taken out where None."""
    numbered = {int(DhcpOption[name]): value for name, value in changes.items()}

    def edit(message: Dhcpv4) -> dict[int, bytes]:
        kept = {code: value for code, value in message.options.items() if code not in numbered}
        return kept | {code: value for code, value in numbered.items() if value is not None}

    return edit


def server(**changes: bytes | None) -> Any:
    """The server's messages get other options."""
    return change(Dhcpv4, dhcp_kind(OFFER, GRANT), options=with_options(**changes))


def patched(target: object, name: str, value: object) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda monkeypatch: monkeypatch.setattr(target, name, value)
