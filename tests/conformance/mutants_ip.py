"""Mutants below TCP: ARP, IPv4, ICMP, fragments and UDP."""

from __future__ import annotations

from typing import Any

import pytest
from mutant_parts import (
    DNS,
    ECHO,
    EVERYBODY,
    EXCEEDED,
    GATEWAY,
    HOUR,
    LOOPBACK,
    NETWORK_MAC,
    NOWHERE,
    OTHER_MAC,
    REPLY,
    TO_ALL,
    UNREACHABLE,
    has,
    icmp,
    is_icmp_about,
    patched,
)
from mutation import (
    TRANSPORT,
    DropLater,
    FirstMac,
    InOrderFragments,
    Mutant,
    both,
    change,
    changed,
    datagram_of,
    drop,
    is_arp,
    is_ip,
    mend_header,
    mend_icmp,
    octets,
    pad_counts,
)

import netemu.stack.fragments as fragments
import netemu.user.udp as user_udp
from netemu.net.clock import SECOND
from netemu.user.idle import IdleTable
from netemu.user.udp import UdpNat
from netemu.wire.address import Endpoint
from netemu.wire.arp import Arp
from netemu.wire.ether import Ethernet
from netemu.wire.icmpv4 import Icmpv4
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.udp import Udp
from pytest_netemu.packet import Packet


def ten_times(packet: Packet) -> list[bytes]:
    return [packet.frame] * (10 if Arp in packet and packet[Arp].operation == 1 else 1)


def error_as_datagram(packet: Packet) -> list[bytes]:
    """An ICMP error is taken for something one answers with an error."""
    if Icmpv4 in packet and packet[Icmpv4].is_error:
        return [datagram_of(packet, Udp(1, 9, b""))]
    return [packet.frame]


def later_fragment_error(packet: Packet) -> list[bytes]:
    """A later fragment is taken for a whole datagram, to a port that is closed."""
    if IPv4 in packet and packet[IPv4].fragment_offset:
        return [datagram_of(Packet.read(changed(packet, IPv4, fragment_offset=0, more_fragments=False), 0), Udp(1, 9, b""))]
    return [packet.frame]


def arp_octet(at: slice, value: bytes) -> Any:
    def edit(frame: bytearray) -> None:
        frame[at] = value

    return octets(is_arp, edit)


def udp_octets(at: slice, value: bytes, old: bytes | None = None) -> Any:
    where = slice(TRANSPORT + at.start, TRANSPORT + at.stop)

    def edit(frame: bytearray) -> None:
        if old is None or frame[where] == old:
            frame[where] = value

    return octets(is_ip(Protocol.UDP), edit)


def udp_length_of_the_packet(frame: bytearray) -> None:
    frame[TRANSPORT + 4 : TRANSPORT + 6] = (int.from_bytes(frame[16:18]) - 20).to_bytes(2)
    frame[TRANSPORT + 6 : TRANSPORT + 8] = bytes(2)


def has_udp_checksum(packet: Packet) -> list[bytes]:
    unsummed = is_ip(Protocol.UDP)(packet.frame) and packet.frame[TRANSPORT + 6 : TRANSPORT + 8] == bytes(2)
    return [] if unsummed else [packet.frame]


def damaged_icmp_if_odd(frame: bytearray) -> None:
    if int.from_bytes(frame[16:18]) % 2:
        frame[TRANSPORT + 2] ^= 1


def mapping_by_destination(monkeypatch: pytest.MonkeyPatch) -> None:
    receive = UdpNat.receive
    last: dict[Endpoint, int] = {}

    def by_destination(self: UdpNat, packet: IPv4, datagram: Udp, now: int) -> None:
        guest = Endpoint(packet.source, datagram.source_port)
        if last.setdefault(guest, datagram.destination_port) != datagram.destination_port:
            gone = self._mappings.remove(guest)
            if gone is not None:
                gone.socket.close()
        last[guest] = datagram.destination_port
        receive(self, packet, datagram, now)

    monkeypatch.setattr(UdpNat, "receive", by_destination)
    monkeypatch.setattr(UdpNat, "_open", lambda self, port: self._realm.host.open_datagram(Endpoint(NOWHERE, 0)))


def one_socket_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = UdpNat._open
    sockets: list[Any] = []

    def shared(self: UdpNat, port: int) -> Any:
        if not sockets:
            sockets.append(usual(self, port))
        return sockets[0]

    monkeypatch.setattr(UdpNat, "_open", shared)


ARP = (
    Mutant("arp_wrong_sender", ("rfc826/reception/01",), out=change(Arp, sender_ip=lambda arp: arp.sender_ip + 1)),
    Mutant("arp_answers_with_a_request", ("rfc826/reception/02",), out=change(Arp, operation=1)),
    Mutant("arp_reply_to_all", ("rfc826/reception/03",), out=lambda p: [changed(p, Ethernet, **TO_ALL) if Arp in p else p.frame]),
    Mutant("arp_answers_for_all", ("rfc826/reception/04",), into=change(Arp, target_ip=GATEWAY)),
    Mutant("arp_any_hardware", ("rfc826/reception/05",), into=arp_octet(slice(14, 16), b"\0\1")),
    Mutant("arp_any_protocol", ("rfc826/reception/06",), into=arp_octet(slice(16, 18), b"\x08\0")),
    Mutant("arp_any_operation", ("rfc826/reception/07",), into=arp_octet(slice(20, 22), b"\0\1")),
    Mutant("arp_learns_once", ("rfc826/reception/08",), out=FirstMac()),
    Mutant(
        "arp_asks_one",
        ("rfc826/generation/01",),
        out=lambda p: [changed(p, Ethernet, destination=OTHER_MAC) if Arp in p else p.frame],
    ),
    Mutant("arp_floods", ("rfc1122/2.3.2.1/01",), out=ten_times),
    Mutant("arp_forgets_what_waited", ("rfc1122/2.3.2.2/01",), out=drop(Udp, lambda udp: udp.destination_port == 7000)),
)

IPV4 = (
    Mutant("any_version", ("rfc1122/3.2.1.1/01",), into=octets(is_ip(), mend_header)),
    Mutant("any_header_checksum", ("rfc1122/3.2.1.2/01",), into=octets(is_ip(), mend_header)),
    Mutant("sends_ttl_zero", ("rfc1122/3.2.1.7/01",), out=change(IPv4, ttl=0)),
    Mutant("wants_ttl", ("rfc1122/3.2.1.7/02",), into=drop(IPv4, lambda ip: ip.ttl < 2)),
    Mutant("refuses_options", ("rfc1122/3.2.1.8/01",), into=drop(IPv4, lambda ip: bool(ip.options))),
    Mutant("padding_counts", ("rfc894/frame-format/01",), into=pad_counts),
    Mutant("errors_from_loopback", ("rfc1122/3.2.1.3/01",), out=change(IPv4, lambda ip: ip.protocol == 1, source=LOOPBACK)),
    Mutant(
        "errors_about_broadcasts",
        ("rfc1122/3.2.2/05",),
        into=both(
            change(IPv4, lambda ip: ip.destination == EVERYBODY, destination=GATEWAY),
            lambda p: [changed(p, Ethernet, destination=NETWORK_MAC) if IPv4 in p else p.frame],
        ),
    ),
    Mutant("forwards_the_expired", ("rfc1812/5.3.1/01", "rfc1812/5.3.1/02"), into=change(IPv4, lambda ip: ip.ttl < 2, ttl=64)),
    Mutant("no_way_in_silence", ("rfc1812/4.3.3.1/01",), out=drop(Icmpv4, lambda message: message.is_error and message.code == 0)),
    Mutant("expires_in_silence", ("rfc1812/5.3.1/02",), out=drop(Icmpv4, icmp(EXCEEDED))),
)

ICMP = (
    Mutant(
        "no_echo", ("rfc1122/3.2.2.6/01", "qemu/user-mode/03", "qemu/user-mode/04", "qemu/host/01"), out=drop(Icmpv4, icmp(REPLY))
    ),
    Mutant("echo_from_the_gateway", ("rfc1122/3.2.2.6/02",), out=change(IPv4, lambda ip: ip.source == DNS, source=GATEWAY)),
    Mutant("echo_cut", ("rfc1122/3.2.2.6/03",), out=change(Icmpv4, icmp(REPLY), payload=lambda echo: echo.payload[:64])),
    Mutant("echo_with_a_code", ("rfc792/echo/01",), out=change(Icmpv4, icmp(REPLY), code=1)),
    Mutant("echo_wrong_identifier", ("rfc792/echo/02",), out=change(Icmpv4, icmp(REPLY), rest=lambda echo: echo.rest ^ 1 << 16)),
    Mutant("echo_wrong_sequence", ("rfc792/echo/02",), out=change(Icmpv4, icmp(REPLY), rest=lambda echo: echo.rest ^ 1)),
    Mutant("odd_checksum_wrong", ("rfc792/echo/03",), out=octets(is_ip(1), damaged_icmp_if_odd)),
    Mutant("any_icmp_checksum", ("rfc792/echo/04",), into=octets(is_ip(1), mend_icmp)),
    Mutant("answers_unknown_types", ("rfc1122/3.2.2/01",), into=change(Icmpv4, icmp(42), type=ECHO)),
    Mutant("answers_information", ("rfc1122/3.2.2.7/01",), into=change(Icmpv4, icmp(15), type=ECHO)),
    Mutant("answers_masks", ("rfc1122/3.2.2.9/01",), into=change(Icmpv4, icmp(17), type=ECHO)),
    Mutant("errors_about_errors", ("rfc1122/3.2.2/04",), into=error_as_datagram),
    Mutant(
        "quotes_something_else",
        ("rfc1122/3.2.2/02",),
        out=change(Icmpv4, icmp(UNREACHABLE), payload=lambda e: e.payload[:-1] + b"!"),
    ),
    Mutant("quotes_no_ports", ("rfc792/unreachable/01",), out=change(Icmpv4, icmp(UNREACHABLE), payload=lambda e: e.payload[:20])),
    Mutant("quotes_little", ("rfc1812/4.3.2.3/01",), out=change(Icmpv4, icmp(UNREACHABLE), payload=lambda e: e.payload[:28])),
    Mutant("urgent_errors", ("rfc1122/3.2.2/03",), out=change(IPv4, lambda ip: ip.protocol == 1, dscp=48)),
    Mutant("closed_ports_in_silence", ("rfc1122/4.1.3.1/01",), out=drop(Icmpv4, icmp(UNREACHABLE))),
)

FRAGMENTS = (
    Mutant("no_fragments", ("rfc1122/3.3.2/01", "rfc791/3.1/02"), into=drop(IPv4, lambda ip: ip.is_fragment)),
    Mutant("fragments_in_order_only", ("rfc4787/11/01",), into=InOrderFragments()),
    Mutant("fragments_mixed", ("rfc791/3.2/01",), into=change(IPv4, lambda ip: ip.is_fragment, identification=1)),
    Mutant(
        "fragments_for_ever", ("rfc1122/3.3.2/02", "rfc1122/3.3.2/03"), patch=patched(fragments, "REASSEMBLY_TIMEOUT", 24 * HOUR)
    ),
    Mutant("fragments_expire_in_silence", ("rfc1122/3.3.2/03",), out=drop(Icmpv4, icmp(EXCEEDED))),
    Mutant("errors_about_fragments", ("rfc1122/3.2.2/06",), into=later_fragment_error),
)

UDP = (
    Mutant("udp_wants_checksums", ("rfc768/fields/01",), into=has_udp_checksum),
    Mutant("udp_zero_is_zero", ("rfc768/fields/02",), out=udp_octets(slice(6, 8), bytes(2), b"\xff\xff")),
    Mutant("udp_length_ignored", ("rfc768/fields/03",), into=octets(is_ip(17), udp_length_of_the_packet)),
    Mutant("udp_empty_is_nothing", ("rfc768/fields/04",), into=drop(Udp, lambda udp: not udp.payload)),
    Mutant("udp_wrong_port", ("rfc768/fields/05",), out=change(Udp, destination_port=lambda udp: udp.destination_port + 1)),
    Mutant("udp_any_checksum", ("rfc1122/4.1.3.4/01",), into=udp_octets(slice(6, 8), bytes(2))),
    Mutant("udp_no_checksum", ("rfc1122/4.1.3.4/02",), out=udp_octets(slice(6, 8), bytes(2))),
    Mutant("udp_mapping_by_destination", ("rfc4787/4.1/01",), patch=mapping_by_destination),
    Mutant("udp_one_port", ("rfc4787/4.2.1/01",), patch=one_socket_for_all),
    Mutant("udp_one_minute", ("rfc4787/4.3/01", "rfc4787/4.3/02"), patch=patched(user_udp, "MAPPING_TIMEOUT", 60 * SECOND)),
    Mutant("udp_three_minutes", ("rfc4787/4.3/02",), patch=patched(user_udp, "MAPPING_TIMEOUT", 180 * SECOND)),
    Mutant(
        "udp_never_refreshed", ("rfc4787/4.3/03",), patch=lambda m: m.setattr(IdleTable, "use", lambda self, key, _: self.get(key))
    ),
    Mutant("udp_few_mappings", ("rfc4787/8/01",), patch=patched(user_udp, "_MAPPINGS", 16)),
    Mutant("udp_dies_of_errors", ("rfc4787/9/01",), out=DropLater(is_icmp_about(17), has(Udp))),
)
