"""Mutants of a guest's UDP."""

from __future__ import annotations

from typing import Any

from mutant_parts import ELSEWHERE, EVERYBODY, EXCEEDED, GATEWAY, UNREACHABLE, icmp
from mutants_ip import UDP, udp_octets
from mutants_wire import like
from mutation import TRANSPORT, Mutant, change, drop, is_ip, octets

from netemu.stack.udp import UdpLayer
from netemu.wire.icmpv4 import IcmpType, Icmpv4, UnreachableCode
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.udp import Udp
from pytest_netemu.packet import Packet

_BROADCAST = GATEWAY + 253


def _unreachable(code: int) -> Any:
    return drop(Icmpv4, lambda message: message.type == UNREACHABLE and message.code == code)


def _odd_sum(frame: bytearray) -> None:
    """The last octet of an odd datagram is not in the sum."""
    if len(frame) % 2:
        at = slice(TRANSPORT + 6, TRANSPORT + 8)
        total = int.from_bytes(frame[at]) + (frame[-1] << 8)
        frame[at] = (total % 0xFFFF or 0xFFFF).to_bytes(2)


def _first_socket(monkeypatch: Any) -> None:
    """Whatever the port, the socket that was opened first has the datagram."""
    receive = UdpLayer.receive

    def received(layer: UdpLayer, packet: Any) -> bool:
        first = next(iter(layer._sockets.values()))
        layer._sockets, kept = dict.fromkeys(range(1 << 16), first), layer._sockets
        try:
            return receive(layer, packet)
        finally:
            layer._sockets = kept

    monkeypatch.setattr(UdpLayer, "receive", received)


def _minds_its_length(packet: Packet) -> list[bytes]:
    """A length that is too small is taken for the packet's."""
    frame = bytearray(packet.frame)
    at = slice(TRANSPORT + 4, TRANSPORT + 6)
    if is_ip(Protocol.UDP)(packet.frame) and int.from_bytes(frame[at]) < 8:
        frame[at] = (int.from_bytes(frame[16:18]) - 20).to_bytes(2)
    return [bytes(frame)]


WIRE_UDP = (
    *like(
        UDP,
        *(f"rfc768/fields/0{number}" for number in range(1, 6)),
        "rfc1122/4.1.3.4/01",
    ),
    Mutant("udp_least_length_ignored", ("rfc768/fields/04",), into=_minds_its_length),
    Mutant("udp_sums_no_addresses", ("rfc768/fields/06",), into=udp_octets(slice(6, 8), bytes(2))),
    Mutant("udp_wants_a_source_port", ("rfc768/fields/07",), into=drop(Udp, lambda udp: not udp.source_port)),
    Mutant("udp_first_socket", ("rfc768/fields/08",), patch=_first_socket),
    Mutant("udp_odd_sum", ("rfc768/fields/09",), out=octets(is_ip(Protocol.UDP), _odd_sum)),
    Mutant("udp_one_sender", ("rfc768/user-interface/01",), into=change(IPv4, source=GATEWAY)),
    Mutant("udp_wrong_sum", ("rfc1122/4.1.3.4/02",), out=udp_octets(slice(6, 8), b"\x12\x34")),
    Mutant("udp_sends_no_sum", ("rfc1122/4.1.3.4/03",), out=udp_octets(slice(6, 8), bytes(2))),
    Mutant("udp_deaf_to_closed_ports", ("rfc1122/4.1.3.3/01",), into=_unreachable(UnreachableCode.PORT)),
    Mutant("udp_deaf_to_lost_hosts", ("rfc1122/3.2.2.1/02",), into=_unreachable(UnreachableCode.HOST)),
    Mutant("udp_deaf_to_time", ("rfc1122/3.2.2.4/01",), into=drop(Icmpv4, icmp(EXCEEDED))),
    Mutant("udp_deaf_to_problems", ("rfc1122/3.2.2.5/01",), into=drop(Icmpv4, icmp(IcmpType.PARAMETER_PROBLEM))),
    Mutant("udp_any_source", ("rfc1122/4.1.3.6/01",), into=change(IPv4, source=GATEWAY)),
    Mutant("udp_from_elsewhere", ("rfc1122/4.1.3.6/02",), out=change(IPv4, lambda ip: ip.protocol == 17, source=ELSEWHERE)),
    Mutant("udp_one_ttl", ("rfc1122/4.1.4/01",), out=change(IPv4, lambda ip: ip.protocol == 17, ttl=64)),
    Mutant("udp_deaf_to_all", ("rfc1122/3.2.1.3/05",), into=drop(IPv4, lambda ip: ip.destination == EVERYBODY)),
    Mutant("udp_deaf_to_its_net", ("rfc1122/3.2.1.3/06",), into=drop(IPv4, lambda ip: ip.destination == _BROADCAST)),
)
