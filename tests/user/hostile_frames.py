"""Frames that lie: every length, offset and number may be another than it should, and the checksums are right nevertheless."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from crowd import GATEWAY, GATEWAY6, GATEWAY_MAC, GUEST, GUEST6, LINK6, MAC

from netemu.wire.address import BROADCAST_MAC, IPAddress, MacAddress
from netemu.wire.checksum import internet_checksum, pseudo_header_sum
from netemu.wire.ether import EtherType
from netemu.wire.ipv4 import Protocol
from netemu.wire.ipv6 import NextHeader, multicast_mac

ANY, BROADCAST = IPv4Address(0), IPv4Address("255.255.255.255")
ALL_DHCP6 = IPv6Address("ff02::1:2")


def ether(kind: int, payload: bytes, *, to: MacAddress = GATEWAY_MAC, sender: MacAddress = MAC) -> bytes:
    return to + sender + kind.to_bytes(2, "big") + payload


def number(value: int, octets: int = 2) -> bytes:
    return value.to_bytes(octets, "big")


def summed(octets: bytes, at: int, initial: int = 0) -> bytes:
    """`octets` with the Internet checksum of all of it at `at`."""
    return octets[:at] + number(internet_checksum(octets, initial)) + octets[at + 2 :]


def ip4(
    protocol: int,
    payload: bytes,
    *,
    source: IPv4Address = GUEST,
    to: IPv4Address = GATEWAY,
    version: int = 4,
    words: int | None = None,
    length: int | None = None,
    options: bytes = b"",
    offset: int = 0,
    more: bool = False,
    identification: int = 1,
    ttl: int = 64,
    mac: MacAddress | None = None,
) -> bytes:
    """`words`: the header length field; `offset`: of a fragment, in octets."""
    head = bytes([version << 4 | (5 + len(options) // 4 if words is None else words), 0])
    head += number(20 + len(options) + len(payload) if length is None else length) + number(identification)
    head += number(more << 13 | offset // 8) + bytes([ttl, protocol, 0, 0]) + source.packed + to.packed + options
    return ether(EtherType.IPV4, summed(head, 10) + payload, to=mac or (BROADCAST_MAC if to == BROADCAST else GATEWAY_MAC))


def ip6(
    next_header: int,
    payload: bytes,
    *,
    source: IPv6Address = GUEST6,
    to: IPv6Address = GATEWAY6,
    length: int | None = None,
    hop_limit: int = 64,
) -> bytes:
    head = b"\x60\0\0\0" + number(len(payload) if length is None else length) + bytes([next_header, hop_limit])
    packet = head + source.packed + to.packed + payload
    return ether(EtherType.IPV6, packet, to=multicast_mac(to) if to.is_multicast else GATEWAY_MAC)


def udp(
    data: bytes,
    *,
    port: int,
    source_port: int = 5000,
    length: int | None = None,
    source: IPAddress = GUEST,
    to: IPAddress = GATEWAY,
) -> bytes:
    stated = 8 + len(data) if length is None else length
    segment = number(source_port) + number(port) + number(stated) + b"\0\0" + data
    return carried(Protocol.UDP, summed(segment, 6, pseudo_header_sum(source, to, Protocol.UDP, stated)), source, to)


def tcp(
    flags: int,
    *,
    port: int = 7,
    source_port: int = 4000,
    words: int | None = None,
    options: bytes = b"",
    data: bytes = b"",
    sequence: int = 1,
    acknowledgment: int = 0,
    urgent: int = 0,
    source: IPAddress = GUEST,
    to: IPAddress = GATEWAY,
) -> bytes:
    """`words`: the data offset field; `flags`: as in netemu.wire.tcp."""
    head = number(source_port) + number(port) + number(sequence, 4) + number(acknowledgment, 4)
    head += bytes([(5 + len(options) // 4 if words is None else words) << 4, flags]) + number(65_535) + b"\0\0" + number(urgent)
    segment = head + options + data
    return carried(Protocol.TCP, summed(segment, 16, pseudo_header_sum(source, to, Protocol.TCP, len(segment))), source, to)


def icmp(kind: int, body: bytes, *, code: int = 0, to: IPv4Address = GATEWAY, mac: MacAddress | None = None) -> bytes:
    return ip4(Protocol.ICMP, summed(bytes([kind, code, 0, 0]) + body, 2), to=to, mac=mac)


def icmp6(
    kind: int,
    body: bytes,
    *,
    source: IPv6Address = GUEST6,
    to: IPv6Address = GATEWAY6,
    hop_limit: int = 64,
    length: int | None = None,
) -> bytes:
    message = bytes([kind, 0, 0, 0]) + body
    stated = len(message) if length is None else length
    message = summed(message, 2, pseudo_header_sum(source, to, NextHeader.ICMPV6, stated))
    return ip6(NextHeader.ICMPV6, message, source=source, to=to, hop_limit=hop_limit, length=stated)


def carried(protocol: int, segment: bytes, source: IPAddress, to: IPAddress) -> bytes:
    """`segment` in a datagram of its family."""
    if isinstance(source, IPv6Address) and isinstance(to, IPv6Address):
        return ip6(protocol, segment, source=source, to=to)
    assert isinstance(source, IPv4Address)
    assert isinstance(to, IPv4Address)
    return ip4(protocol, segment, source=source, to=to)


def fragment6(offset: int, payload: bytes, *, more: bool, next_header: int = Protocol.UDP, identification: int = 1) -> bytes:
    header = bytes([next_header, 0]) + number(offset | more) + number(identification, 4)
    return ip6(NextHeader.FRAGMENT, header + payload)


def dhcp(options: bytes, *, mac: MacAddress = MAC, xid: int = 7) -> bytes:
    """A BOOTP request with these octets for options, to everybody."""
    message = b"\1\1\6\0" + number(xid, 4) + bytes(20) + mac.ljust(16, b"\0") + bytes(192) + b"\x63\x82\x53\x63" + options
    return dhcp_octets(message)


def dhcp_octets(message: bytes) -> bytes:
    return udp(message, port=67, source_port=68, source=ANY, to=BROADCAST)


def dhcp6(options: bytes, *, kind: int = 1, source: IPv6Address = LINK6) -> bytes:
    """A DHCPv6 message (a SOLICIT unless told) with these octets for options."""
    return udp(bytes([kind]) + b"\0\0\7" + options, port=547, source_port=546, source=source, to=ALL_DHCP6)
