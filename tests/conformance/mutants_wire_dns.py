"""Mutants of a guest's resolver."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from mutant_parts import ELSEWHERE, has, patched
from mutants_wire_dhcp import Once
from mutation import TRANSPORT, Mutant, change, drop, octets

import netemu.stack.dns_client as dns_client
from netemu.net.clock import SECOND
from netemu.stack.dns_client import DnsOutcome, DnsQuery
from netemu.wire.address import Endpoint
from netemu.wire.dns import DnsMessage, Question, RecordType, ResponseCode, a_record
from netemu.wire.errors import WireError
from netemu.wire.ether import Ethernet
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.tcp import SYN, Tcp
from netemu.wire.udp import Udp
from pytest_netemu.packet import Packet

_SERVER = IPv4Address("198.51.100.3")
_DNS = bytes((0, 53))


def _hears(edit: Callable[[DnsQuery, DnsMessage], DnsMessage]) -> Callable[[pytest.MonkeyPatch], None]:
    """The resolver hears something else than what was said."""
    usual = DnsQuery.receive

    def receive(query: DnsQuery, payload: bytes, source: Endpoint) -> None:
        with suppress(WireError):
            payload = edit(query, DnsMessage.parse(payload)).pack()
        usual(query, payload, source)

    return patched(DnsQuery, "receive", receive)


def _malformed_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that cannot be read is an answer without addresses."""
    usual = DnsQuery.receive

    def receive(query: DnsQuery, payload: bytes, source: Endpoint) -> None:
        try:
            DnsMessage.parse(payload)
        except WireError:
            query._finish(DnsOutcome.NO_DATA)
        usual(query, payload, source)

    monkeypatch.setattr(DnsQuery, "receive", receive)


def _reserved(frame: bytearray) -> None:
    frame[TRANSPORT + 8 + 3] |= 0x40
    frame[TRANSPORT + 6 : TRANSPORT + 8] = bytes(2)


def _is_question(frame: bytes) -> bool:
    return frame[12:14] == b"\x08\x00" and frame[23] == Protocol.UDP and frame[TRANSPORT + 2 : TRANSPORT + 4] == _DNS


def _tcp_first(packet: Packet) -> list[bytes]:
    if DnsMessage not in packet:
        return [packet.frame]
    ip = packet[IPv4]
    segment = Tcp(50_000, 53, 0, 0, SYN, 1000).pack(ip.source, ip.destination)
    syn = replace(packet[Ethernet], payload=replace(ip, protocol=Protocol.TCP, payload=segment).pack()).pack()
    return [syn, packet.frame]


WIRE_DNS = (
    Mutant("dns_asks_with_responses", ("rfc1035/4.1.1/04",), out=change(DnsMessage, response=True)),
    Mutant("dns_sets_what_is_reserved", ("rfc1035/4.1.1/06",), out=octets(_is_question, _reserved)),
    Mutant(
        "dns_asks_for_another",
        ("rfc1035/4.1.2/01",),
        out=change(DnsMessage, questions=(Question("www.example.com", RecordType.A),)),
    ),
    Mutant(
        "dns_asks_elsewhere", ("rfc1035/4.2.1/01",), out=change(Udp, lambda udp: udp.destination_port == 53, destination_port=54)
    ),
    Mutant("dns_asks_tcp_first", ("rfc1123/6.1.3.2/01",), out=_tcp_first),
    Mutant("dns_any_direction", ("rfc1035/7.3/01",), patch=_hears(lambda _, message: replace(message, response=True))),
    Mutant(
        "dns_any_number",
        ("rfc1035/7.3/02",),
        patch=_hears(lambda query, message: replace(message, identification=query._identification)),
    ),
    Mutant(
        "dns_any_question", ("rfc1035/7.3/03",), patch=_hears(lambda query, message: replace(message, questions=(query._question,)))
    ),
    Mutant("dns_malformed_is_nothing", ("rfc1035/7.3/04",), patch=_malformed_is_nothing),
    Mutant("dns_minds_case", ("rfc1035/2.3.3/01",), into=drop(DnsMessage, lambda message: message.questions[0].name.isupper())),
    Mutant(
        "dns_no_aliases",
        ("rfc1034/3.6.2/01",),
        into=change(DnsMessage, answers=lambda m: tuple(r for r in m.answers if r.type != RecordType.CNAME)),
    ),
    Mutant("dns_asks_on", ("rfc1035/7.1/01",), out=lambda packet: [packet.frame] * (25 if DnsMessage in packet else 1)),
    Mutant(
        "dns_invents",
        ("rfc1035/4.1.1/05",),
        into=change(
            DnsMessage,
            lambda message: message.response_code == ResponseCode.NAME_ERROR,
            response_code=ResponseCode.NO_ERROR,
            answers=(a_record("www.example.org", ELSEWHERE, 60),),
        ),
    ),
    Mutant(
        "dns_failure_is_absence",
        ("rfc1034/5.2.3/01",),
        into=change(
            DnsMessage,
            lambda message: message.response_code == ResponseCode.SERVER_FAILURE,
            response_code=ResponseCode.NAME_ERROR,
        ),
    ),
    Mutant("dns_takes_what_was_truncated", ("rfc1123/6.1.3.2/02",), into=change(DnsMessage, truncated=False)),
    Mutant("dns_asks_once", ("rfc1035/4.2.1/02",), out=Once(has(DnsMessage))),
    Mutant("dns_asks_in_haste", ("rfc1035/4.2.1/04",), patch=patched(dns_client, "RETRY_INTERVAL", SECOND // 2)),
    Mutant("dns_never_gives_up", ("rfc1123/6.1.3.3/01",), patch=patched(dns_client, "ROUNDS", 1 << 20)),
    Mutant(
        "dns_one_server",
        ("rfc1035/4.2.1/03",),
        out=change(IPv4, lambda ip: ip.destination == _SERVER + 1, destination=_SERVER),
    ),
)
