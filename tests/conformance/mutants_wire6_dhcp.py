"""Mutants of a guest's DHCPv6 client."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
from mutant_parts import patched
from mutants_wire6 import GUEST6
from mutation import DropLater, Mutant, Rewrite, drop

import netemu.stack.dhcp6_client as dhcp6_client
from netemu.net.clock import SECOND
from netemu.stack.addresses6 import AddressTable6
from netemu.stack.dhcp6_client import Dhcp6Client, Dhcp6State
from netemu.wire.dhcpv6 import Dhcpv6, Dhcpv6MessageType, Dhcpv6Option
from netemu.wire.ether import Ethernet
from netemu.wire.ipv6 import IPv6
from netemu.wire.udp import Udp
from pytest_netemu.packet import Packet

T = Dhcpv6MessageType


def says(change: Callable[[Dhcpv6], Dhcpv6], *kinds: int) -> Rewrite:
    """DHCPv6 messages of these types are changed; every type's without one."""

    def rewrite(packet: Packet) -> Iterable[bytes]:
        if Dhcpv6 not in packet or (kinds and packet[Dhcpv6].message_type not in kinds):
            return [packet.frame]
        ip = packet[IPv6]
        datagram = replace(packet[Udp], payload=change(packet[Dhcpv6]).pack()).pack(ip.source, ip.destination)
        return [replace(packet[Ethernet], payload=replace(ip, payload=datagram).pack()).pack()]

    return rewrite


def is_a(kind: int) -> Callable[[Packet], bool]:
    return lambda packet: Dhcpv6 in packet and packet[Dhcpv6].message_type == kind


def without(*codes: int) -> Callable[[Dhcpv6], Dhcpv6]:
    return lambda message: replace(message, options=tuple(option for option in message.options if option[0] not in codes))


def in_the_name_of(server: bytes) -> Callable[[Dhcpv6], Dhcpv6]:
    usual = without(Dhcpv6Option.SERVERID)
    return lambda message: replace(message, options=(*usual(message).options, (int(Dhcpv6Option.SERVERID), server)))


def believes(monkeypatch: pytest.MonkeyPatch, adopt: Callable[[Dhcp6Client, Dhcpv6], Dhcpv6]) -> None:
    """What comes is taken for what was asked for."""
    receive = Dhcp6Client.receive

    def receiving(client: Dhcp6Client, payload: bytes, now: int) -> None:
        receive(client, adopt(client, Dhcpv6.parse(payload)).pack(), now)

    monkeypatch.setattr(Dhcp6Client, "receive", receiving)


def any_reply(client: Dhcp6Client, message: Dhcpv6) -> Dhcpv6:
    named = message if message.server_id else in_the_name_of(b"\0\3any")(message)
    return replace(named, transaction_id=client._transaction)


def any_client(client: Dhcp6Client, message: Dhcpv6) -> Dhcpv6:
    usual = without(Dhcpv6Option.CLIENTID)(message)
    return replace(usual, options=((int(Dhcpv6Option.CLIENTID), client._duid), *usual.options))


def first_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first advertisement is taken at once."""
    monkeypatch.setattr(Dhcp6Client, "_advertised", Dhcp6Client._choose)


def transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each message is a transaction of its own."""
    again = Dhcp6Client._again

    def anew(client: Dhcp6Client, now: int) -> None:
        client._transaction = client._getrandbits(24)
        again(client, now)

    monkeypatch.setattr(Dhcp6Client, "_again", anew)


def any_advertisement(monkeypatch: pytest.MonkeyPatch) -> None:
    """One without an address is as good as another."""
    receive = Dhcp6Client.receive

    def receiving(client: Dhcp6Client, payload: bytes, now: int) -> None:
        message = Dhcpv6.parse(payload)
        if client.state is Dhcp6State.SOLICITING and message.message_type == T.ADVERTISE:
            client._choose(message, now)
        else:
            receive(client, payload, now)

    monkeypatch.setattr(Dhcp6Client, "receive", receiving)


def from_the_prefix(packet: Packet) -> Iterable[bytes]:
    """A client speaks from an address of the prefix."""
    if Dhcpv6 not in packet:
        return [packet.frame]
    ip = replace(packet[IPv6], source=GUEST6)
    return [replace(packet[Ethernet], payload=replace(ip, payload=packet[Udp].pack(ip.source, ip.destination)).pack()).pack()]


WIRE_DHCP6 = (
    Mutant("dhcp6_nameless", ("rfc8415/18.2.1/01",), out=says(without(Dhcpv6Option.CLIENTID))),
    Mutant("dhcp6_timeless", ("rfc8415/18.2.1/02",), out=says(without(Dhcpv6Option.ELAPSED_TIME))),
    Mutant("dhcp6_wants_nothing", ("rfc8415/18.2.1/06", "rfc8415/18.2.6/01"), out=says(without(Dhcpv6Option.ORO))),
    Mutant(
        "dhcp6_hurries",
        ("rfc8415/18.2.1/03", "rfc8415/18.2.1/04"),
        patch=patched(dhcp6_client.Dhcp6Client, "_next_timeout", lambda *_: SECOND // 2),
    ),
    Mutant("dhcp6_at_one_pace", ("rfc8415/15/01",), patch=patched(Dhcp6Client, "_next_timeout", lambda *_: SECOND + 1)),
    Mutant("dhcp6_transactions", ("rfc8415/16.1/01",), patch=transactions),
    Mutant("dhcp6_first_come", ("rfc8415/18.2.9/01",), patch=first_come),
    Mutant("dhcp6_waits_for_all", ("rfc8415/18.2.1/05",), patch=patched(dhcp6_client, "_MOST_PREFERRED", 256)),
    Mutant(
        "dhcp6_any_answer",
        ("rfc8415/16.3/01", "rfc8415/16.10/01"),
        patch=lambda monkeypatch: believes(monkeypatch, any_reply),
    ),
    Mutant("dhcp6_any_client", ("rfc8415/16.10/02",), patch=lambda monkeypatch: believes(monkeypatch, any_client)),
    Mutant("dhcp6_any_advertisement", ("rfc8415/18.2.9/02",), patch=any_advertisement),
    Mutant(
        "dhcp6_any_server",
        ("rfc8415/18.2.2/01", "rfc8415/18.2.4/02", "rfc8415/18.2.5/01"),
        out=says(in_the_name_of(b"\0\3any"), T.REQUEST, T.RENEW, T.REBIND),
    ),
    Mutant("dhcp6_never_renews", ("rfc8415/18.2.4/01",), out=drop(Dhcpv6, lambda message: message.message_type == T.RENEW)),
    Mutant("dhcp6_rebinds_for_ever", ("rfc8415/18.2.5/02",), out=DropLater(is_a(T.REBIND), is_a(T.SOLICIT))),
    Mutant("dhcp6_never_declines", ("rfc8415/18.2.8/01",), patch=patched(AddressTable6, "conflict", lambda *_: False)),
    Mutant("dhcp6_from_the_prefix", ("rfc8415/18.2.8/02",), out=from_the_prefix),
)
