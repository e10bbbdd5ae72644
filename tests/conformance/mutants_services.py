"""Mutants of names, forwarded ports, pings beyond the gateway, and options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest
from mutant_parts import DNS, GATEWAY, NOWHERE, UNREACHABLE, flags, icmp, patched, server
from mutation import (
    Mutant,
    change,
    drop,
)

import netemu.user.hostfwd as hostfwd
import netemu.user.options as options
from netemu.user.forward import parse_forward
from netemu.user.guestfwd import GuestForwards
from netemu.user.icmp import EchoService
from netemu.wire.address import Endpoint
from netemu.wire.dns import DnsMessage, ResponseCode
from netemu.wire.icmpv4 import Icmpv4
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.tcp import SYN, Tcp

_usual_forwards = hostfwd.HostForwards.__init__


def forwards_with(edit: Callable[[Any], Any]) -> Callable[[pytest.MonkeyPatch], None]:
    """Forwards are other ones than asked for."""
    return patched(hostfwd, "parse_forward", lambda *arguments: edit(parse_forward(*arguments)))


def unrestricted(monkeypatch: pytest.MonkeyPatch) -> None:
    check = options.UserOptions.__post_init__

    def lenient(self: Any) -> None:
        check(self)
        object.__setattr__(self, "restrict", False)

    monkeypatch.setattr(options.UserOptions, "__post_init__", lenient)


def _seventeen(self: options.UserOptions) -> tuple[IPv4Address, ...]:
    """One address more than there should be."""
    return tuple(self.dhcpstart + number for number in range(17))


def echo_for_the_internet(self: EchoService, packet: IPv4, message: Icmpv4, now: int) -> None:
    reply = Icmpv4.echo_reply(message.identifier, message.sequence, message.payload)
    self._realm.side(packet.source).datagram(packet.destination, packet.source, Protocol.ICMP, reply.pack(), now)


def _with_a_hole(self: Any, *arguments: Any) -> None:
    _usual_forwards(self, *arguments)
    self.add("udp:127.0.0.1:53-:53")


NAMES = (
    Mutant(
        "dns_wrong_identification", ("rfc1035/4.1.1/01",), out=change(DnsMessage, identification=lambda m: m.identification ^ 1)
    ),
    Mutant("dns_wrong_opcode", ("rfc1035/4.1.1/02",), out=change(DnsMessage, opcode=1)),
    Mutant("dns_recursion_lost", ("rfc1035/4.1.1/03",), out=change(DnsMessage, recursion_desired=False)),
    Mutant("dns_question_back", ("rfc1035/4.1.1/04",), out=change(DnsMessage, response=False)),
    Mutant("dns_all_is_well", ("rfc1035/4.1.1/05",), out=change(DnsMessage, response_code=ResponseCode.NO_ERROR)),
    Mutant("dns_from_the_gateway", ("rfc1035/4.2.1/01",), out=change(IPv4, lambda ip: ip.source == DNS, source=GATEWAY)),
    Mutant("dns_refers", ("rfc1034/4.3.1/01",), out=change(DnsMessage, answers=())),
    Mutant("dns_udp_silent", ("rfc1035/4.2/01",), out=drop(DnsMessage)),
    Mutant("dns_no_tcp", ("rfc1035/4.2.2/01",), into=drop(Tcp, lambda segment: segment.destination_port == 53)),
)

FORWARDS = (
    Mutant(
        "hostfwd_off_by_one",
        ("qemu/user-mode/07", "qemu/hostfwd/04"),
        patch=forwards_with(lambda forward: replace(forward, guest=Endpoint(forward.guest.address, forward.guest.port + 1))),
    ),
    Mutant(
        "hostfwd_second_guest",
        ("qemu/hostfwd/01",),
        patch=forwards_with(lambda forward: replace(forward, guest=Endpoint(forward.guest.address + 1, forward.guest.port))),
    ),
    Mutant(
        "hostfwd_everywhere",
        ("qemu/hostfwd/02",),
        patch=forwards_with(lambda forward: replace(forward, host=Endpoint(NOWHERE, forward.host.port))),
    ),
    Mutant("hostfwd_udp_unless_said", ("qemu/hostfwd/03",), patch=forwards_with(lambda forward: replace(forward, protocol="udp"))),
    Mutant("guest_open_to_all", ("qemu/user-mode/02",), patch=lambda m: m.setattr(hostfwd.HostForwards, "__init__", _with_a_hole)),
    Mutant("restrict_ignored", ("qemu/restrict/01",), patch=unrestricted),
    Mutant("restrict_forwards_too", ("qemu/restrict/02",), out=drop(Tcp, flags(SYN))),
)

PING = (
    Mutant(
        "ping_stays_home",
        ("qemu/user-mode/05", "rfc5508/3.1/01", "linux-icmp/ping_group_range/01", "linux-icmp/ping_group_range/03"),
        patch=lambda m: m.setattr(EchoService, "_forward", lambda *_: None),
    ),
    Mutant(
        "ping_answers_for_the_internet",
        ("qemu/user-mode/06", "linux-icmp/ping_group_range/01", "linux-icmp/ping_group_range/02", "rfc5508/6/01"),
        patch=patched(EchoService, "_forward", echo_for_the_internet),
    ),
    Mutant("ping_denied_in_silence", ("rfc5508/6/01",), out=drop(Icmpv4, icmp(UNREACHABLE))),
)

OPTIONS = (
    Mutant("rapid_commit_unsaid", ("rfc4039/4/01",), out=server(RAPID_COMMIT=None)),
    Mutant(
        "time_servers_backwards",
        ("rfc2132/8.3/01",),
        out=server(NETWORK_TIME_PROTOCOL_SERVERS=bytes((192, 0, 2, 124, 192, 0, 2, 123))),
    ),
    Mutant("router_beside_routes", ("rfc3442/server/01",), out=server(ROUTER=GATEWAY.packed)),
    Mutant("guestfwd_to_nobody", ("qemu/guestfwd/01",), patch=patched(GuestForwards, "add", lambda *_: None)),
    Mutant("option_net", ("qemu/net/01",), out=server(SUBNET_MASK=bytes((255, 255, 255, 0)))),
    Mutant("option_host", ("qemu/host/01",), out=server(ROUTER=GATEWAY.packed)),
    Mutant("option_dns", ("qemu/dns/01",), out=server(DOMAIN_NAME_SERVER=DNS.packed)),
    Mutant("option_dhcpstart", ("qemu/dhcpstart/01",), patch=patched(options.UserOptions, "pool", property(_seventeen))),
    Mutant("option_hostname", ("qemu/hostname/01",), out=server(HOST_NAME=None)),
    Mutant("option_domainname", ("qemu/domainname/01",), out=server(DOMAIN_NAME=b"example.com")),
)
