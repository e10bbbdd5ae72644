"""Mutants of the DHCP server and client."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from mutant_parts import (
    DECLINE,
    DISCOVER,
    DNS,
    ELSEWHERE,
    EVERYBODY,
    GATEWAY,
    GRANT,
    GUEST,
    NAK,
    OFFER,
    RELEASE,
    REQUEST,
    dhcp_kind,
    patched,
    server,
    with_options,
)
from mutation import (
    Mutant,
    change,
    changed,
    drop,
)

import netemu.stack.dhcp_client as dhcp_client
import netemu.user.dhcp as dhcp
import netemu.user.options as options
from netemu.net.clock import SECOND
from netemu.stack.dhcp_messages import DhcpRequests
from netemu.user.dhcp import DhcpServer
from netemu.user.leases import LeaseTable
from netemu.wire.dhcpv4 import DhcpOption, Dhcpv4
from netemu.wire.ether import Ethernet
from netemu.wire.ipv4 import IPv4
from netemu.wire.udp import Udp
from pytest_netemu.packet import Packet


def router_first(message: Dhcpv4) -> dict[int, bytes]:
    mask = {code: value for code, value in message.options.items() if code == DhcpOption.SUBNET_MASK}
    return {code: value for code, value in message.options.items() if code not in mask} | mask


def leases_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LeaseTable, "expire", lambda *_: None)
    monkeypatch.setattr(LeaseTable, "deadline", lambda _: None)


def forget_released(self: LeaseTable, lease: Any, now: int) -> None:
    del now
    del self._leases[lease.address]


def asked_to_discover(packet: Packet) -> list[bytes]:
    """A client that reboots is taken for a new one."""
    if Dhcpv4 in packet and packet[Dhcpv4].message_type == REQUEST and packet[Dhcpv4].server_identifier is None:
        return [changed(packet, Dhcpv4, options={DhcpOption.DHCP_MESSAGE_TYPE: bytes((DISCOVER,))})]
    return [packet.frame]


def _mask_twice(packet: Packet) -> bytes:
    """The mask is there a second time, in front of the end option."""
    udp = packet[Udp]
    end = udp.payload.rstrip(b"\0")
    payload = end[:-1] + bytes((1, 4, 255, 255, 255, 0)) + end[-1:]
    return changed(packet, Udp, payload=payload.ljust(300, b"\0")) if Dhcpv4 not in packet else _raw_udp(packet, payload)


def _raw_udp(packet: Packet, payload: bytes) -> bytes:
    ip = packet[IPv4]
    udp = replace(packet[Udp], payload=payload.ljust(300, b"\0")).pack(ip.source, ip.destination)
    return replace(packet[Ethernet], payload=replace(ip, payload=udp).pack()).pack()


def requests_with(method: str, **fields: object) -> Callable[[pytest.MonkeyPatch], None]:
    """The guest's DHCP client says something else in one of its messages."""
    usual = getattr(DhcpRequests, method)

    def said(self: DhcpRequests, *arguments: Any) -> Dhcpv4:
        message = usual(self, *arguments)
        return replace(message, **{name: value(message) if callable(value) else value for name, value in fields.items()})

    return patched(DhcpRequests, method, said)


DHCP_SERVER = (
    Mutant("dhcp_address_of_another_net", ("rfc2131/4.3.1/01",), out=change(Dhcpv4, dhcp_kind(OFFER), yiaddr=ELSEWHERE)),
    Mutant("bootp_as_dhcp", ("rfc1534/2/01",), patch=patched(DhcpServer, "_bootp", DhcpServer._discover)),
    Mutant("dhcp_wrong_transaction", ("rfc2131/2/01",), out=change(Dhcpv4, xid=lambda m: m.xid ^ 1)),
    Mutant("dhcp_wrong_port", ("rfc2131/4.1/01",), out=change(Udp, lambda udp: udp.destination_port == 68, destination_port=67)),
    Mutant("dhcp_no_type", ("rfc2132/9.6/01",), out=server(DHCP_MESSAGE_TYPE=None)),
    Mutant("dhcp_nameless", ("rfc2132/9.7/01", "rfc2131/4.1/02"), out=server(SERVER_IDENTIFIER=None)),
    Mutant("dhcp_server_elsewhere", ("rfc2131/4.1/02",), out=server(SERVER_IDENTIFIER=ELSEWHERE.packed)),
    Mutant("dhcp_no_lease_time", ("rfc2131/4.3.1/02",), out=server(IP_ADDRESS_LEASE_TIME=None)),
    Mutant("dhcp_router_first", ("rfc2132/3.3/01",), out=change(Dhcpv4, dhcp_kind(OFFER), options=router_first)),
    Mutant("dhcp_no_router", ("rfc2132/3.5/01",), out=server(ROUTER=None)),
    Mutant("dhcp_no_dns", ("rfc2132/3.8/01", "qemu/user-mode/08"), out=server(DOMAIN_NAME_SERVER=None)),
    Mutant("dhcp_late_renewal", ("rfc2131/4.4.5/01",), out=server(RENEWAL_TIME_VALUE=(90_000).to_bytes(4))),
    Mutant("dhcp_no_times", ("rfc2131/4.4.5/02",), out=server(RENEWAL_TIME_VALUE=None, REBINDING_TIME_VALUE=None)),
    Mutant("dhcp_never_broadcasts", ("rfc2131/4.1/03",), into=change(Dhcpv4, broadcast=False)),
    Mutant("dhcp_always_broadcasts", ("rfc2131/4.1/04",), into=change(Dhcpv4, broadcast=True)),
    Mutant("dhcp_one_client", ("rfc2131/4.2/01", "rfc2131/4.3.1/04"), patch=patched(dhcp, "_client", lambda _: b"everybody")),
    Mutant("dhcp_identifier_ignored", ("rfc2131/4.2/02",), patch=patched(dhcp, "_client", lambda message: bytes(message.chaddr))),
    Mutant(
        "dhcp_grants_something_else",
        ("rfc2131/3.1/05",),
        out=change(Dhcpv4, dhcp_kind(GRANT), options=with_options(ROUTER=DNS.packed)),
    ),
    Mutant(
        "dhcp_server_identifier_ignored",
        ("rfc2131/3.1/04",),
        into=change(Dhcpv4, dhcp_kind(REQUEST), options=with_options(SERVER_IDENTIFIER=GATEWAY.packed)),
    ),
    Mutant(
        "dhcp_grants_anything",
        ("rfc2131/4.3.2/04",),
        into=change(Dhcpv4, dhcp_kind(REQUEST), options=with_options(REQUESTED_IP_ADDRESS=GUEST.packed)),
    ),
    Mutant("dhcp_no_nak", ("rfc2131/4.3.2/01", "rfc2131/4.3.2/02"), out=drop(Dhcpv4, dhcp_kind(NAK))),
    Mutant(
        "dhcp_nak_to_one",
        ("rfc2131/4.3.2/02",),
        out=lambda p: [changed(p, IPv4, destination=GUEST) if Dhcpv4 in p and p[Dhcpv4].message_type == NAK else p.frame],
    ),
    Mutant("dhcp_nak_with_address", ("rfc2131/4.3.2/02",), out=change(Dhcpv4, dhcp_kind(NAK), yiaddr=EVERYBODY)),
    Mutant("dhcp_answers_strangers", ("rfc2131/4.3.2/03",), into=asked_to_discover),
    Mutant("dhcp_extends_for_anybody", ("rfc2131/4.3.2/05",), patch=patched(LeaseTable, "available_to", lambda *_: True)),
    Mutant("dhcp_leases_for_ever", ("rfc2131/2.2/01",), patch=leases_for_ever),
    Mutant("dhcp_release_ignored", ("rfc2131/4.3.4/01",), into=drop(Dhcpv4, dhcp_kind(RELEASE))),
    Mutant("dhcp_forgets_the_released", ("rfc2131/4.3.4/02",), patch=patched(LeaseTable, "release", forget_released)),
    Mutant("dhcp_decline_ignored", ("rfc2131/4.3.3/01",), into=drop(Dhcpv4, dhcp_kind(DECLINE))),
    Mutant("dhcp_inform_leases", ("rfc2131/4.3.5/01",), out=server(IP_ADDRESS_LEASE_TIME=bytes((0, 0, 1, 0)))),
    Mutant(
        "dhcp_inform_to_all",
        ("rfc2131/3.4/01",),
        out=lambda p: [changed(p, IPv4, destination=EVERYBODY) if Dhcpv4 in p and p[Dhcpv4].lease_time is None else p.frame],
    ),
    Mutant(
        "dhcp_twice_the_mask",
        ("rfc2131/4.3.1/03",),
        out=lambda p: [_mask_twice(p) if Dhcpv4 in p else p.frame],
    ),
)

DHCP_CLIENT = (
    Mutant("client_starts_at_16", ("qemu/user-mode/01",), patch=lambda m: m.setitem(options._DEFAULT_HOSTS, "dhcpstart", 0x0210)),
    Mutant(
        "client_names_no_server", ("rfc2131/3.1/01",), patch=requests_with("select", options=with_options(SERVER_IDENTIFIER=None))
    ),
    Mutant(
        "client_names_no_address",
        ("rfc2131/3.1/02",),
        patch=requests_with("select", options=with_options(REQUESTED_IP_ADDRESS=None)),
    ),
    Mutant("client_counts_seconds", ("rfc2131/3.1/03",), patch=requests_with("select", secs=7)),
    Mutant("client_asks_regularly", ("rfc2131/4.1/05",), patch=patched(dhcp_client, "RETRANSMISSIONS", (4 * SECOND,))),
    Mutant(
        "client_renews_late",
        ("rfc2131/4.4.5/03",),
        out=change(Dhcpv4, dhcp_kind(GRANT), options=with_options(RENEWAL_TIME_VALUE=(70_000).to_bytes(4))),
        patch=lambda m: m.setattr(dhcp_client.DhcpClient, "_extend", lambda self, now: None),
    ),
    Mutant(
        "client_renews_with_a_server",
        ("rfc2131/4.4.5/04",),
        patch=requests_with("extend", options=with_options(SERVER_IDENTIFIER=GATEWAY.packed)),
    ),
    Mutant(
        "client_keeps_its_address",
        ("rfc2131/4.4.5/05",),
        patch=lambda m: m.setattr(dhcp_client.DhcpClient, "_lose", lambda self, _: None),
    ),
)
