"""Echo: answered here, carried beyond, forbidden, failed."""

import errno
from ipaddress import IPv4Address

import pytest
from user_driver import DNS, GATEWAY, GUEST, SERVER, SMB, Lab, Seen, unreachable

from netemu.user.flow import Refusal
from netemu.user.options import UserOptions
from netemu.wire.address import Endpoint
from netemu.wire.icmpv4 import IcmpType, Icmpv4, TimeExceededCode
from netemu.wire.ipv4 import IPv4, Protocol

ROUTER = "192.0.2.1"
FAR = IPv4Address("203.0.113.9")


def is_reply(seen: Seen, source: IPv4Address, *, identifier: int = 7, sequence: int = 1, payload: bytes = b"ping") -> None:
    assert seen.icmp is not None, seen
    assert seen.ip is not None
    assert seen.icmp == Icmpv4.echo_reply(identifier, sequence, payload)
    assert (seen.ip.source, seen.ip.destination) == (source, GUEST)


@pytest.mark.parametrize("address", [GATEWAY, DNS, SMB])
def test_own_addresses_answer_without_the_host(address: IPv4Address) -> None:
    lab = Lab()
    lab.host.set_ping_group_range(1, 0)
    lab.echo(address)
    is_reply(lab.one(), address)
    assert lab.network.flows() == ()


def test_beyond_the_gateway_identifier_and_sequence_are_the_guests() -> None:
    lab = Lab()
    lab.echo(SERVER, identifier=0xBEEF, sequence=3, payload=b"x" * 1400)
    is_reply(lab.one(), SERVER, identifier=0xBEEF, sequence=3, payload=b"x" * 1400)
    (flow,) = lab.network.flows()
    assert (flow.protocol, flow.guest, flow.sent, flow.received) == ("icmp", Endpoint(GUEST, 0xBEEF), 1400, 1400)


def test_one_session_for_each_identifier_and_it_ends_after_a_minute() -> None:
    lab = Lab()
    opened = []
    open_ping = lab.host.open_ping
    lab.host.open_ping = lambda *asked: opened.append(open_ping(*asked)) or opened[-1]  # type: ignore[func-returns-value,method-assign] # a spy
    for sequence in range(3):
        lab.echo(SERVER, identifier=1, sequence=sequence)
        lab.echo(SERVER, identifier=2, sequence=sequence)
    assert len(lab.take()) == 6
    assert len(lab.network.flows()) == len(opened) == 2
    lab.run(59)
    assert len(lab.network.flows()) == 2
    lab.run(1)
    assert lab.network.flows() == ()
    assert all(ping._closed for ping in opened)


def test_forbidden_by_ping_group_range_is_said_and_seen() -> None:
    lab = Lab()
    lab.host.set_ping_group_range(1, 0)
    packet = lab.echo(SERVER)
    unreachable(lab.one(), 13, packet, GATEWAY)
    assert lab.counters["ping-forbidden"] == 1
    (refusal,) = lab.user.refusals
    assert isinstance(refusal, Refusal)
    assert (refusal.errno, refusal.guest, refusal.destination) == (errno.EACCES, Endpoint(GUEST, 7), SERVER)
    assert "ping socket" in refusal.operation
    lab.host.set_ping_group_range(100, 100)  # echo 100 100 > /proc/sys/net/ipv4/ping_group_range
    lab.echo(SERVER)
    is_reply(lab.one(), SERVER)


def test_refusals_are_bounded() -> None:
    lab = Lab()
    lab.host.set_ping_group_range(1, 0)
    for sequence in range(100):
        lab.echo(SERVER, sequence=sequence)
    lab.run()
    assert lab.counters["ping-forbidden"] == 100
    assert len(lab.user.refusals) == 64


@pytest.mark.parametrize(("error", "code"), [(errno.ENETUNREACH, 0), (errno.EHOSTUNREACH, 1)])
def test_the_hosts_own_routes_say_no(error: int, code: int) -> None:
    lab = Lab()
    lab.host.unreachable("203.0.113.0/24", error)
    packet = lab.echo(FAR)
    unreachable(lab.one(), code, packet, GATEWAY)


def test_a_router_says_no() -> None:
    lab = Lab()
    lab.host.unreachable("203.0.113.0/24", errno.EHOSTUNREACH, reporter=ROUTER)
    packet = lab.echo(FAR)
    unreachable(lab.one(), 1, packet, IPv4Address(ROUTER))


def test_traceroute() -> None:
    lab = Lab()
    lab.host.add_address(FAR, path=(ROUTER, "192.0.2.5"))
    hops = []
    for ttl in range(1, 5):
        packet = lab.echo(FAR, ttl=ttl, sequence=ttl)
        seen = lab.one()
        assert seen.ip is not None
        assert seen.icmp is not None
        hops.append((str(seen.ip.source), seen.icmp.type))
        if seen.icmp.type == IcmpType.TIME_EXCEEDED:
            assert seen.icmp.code == TimeExceededCode.TTL
            assert seen.icmp.payload == packet.pack()
    exceeded, reply = IcmpType.TIME_EXCEEDED, IcmpType.ECHO_REPLY
    assert hops == [("10.0.2.2", exceeded), (ROUTER, exceeded), ("192.0.2.5", exceeded), (str(FAR), reply)]


def test_silence_stays_silence_and_pending_requests_are_bounded() -> None:
    lab = Lab()
    lab.host.blackhole("203.0.113.0/24")
    for sequence in range(200):
        lab.echo(FAR, sequence=sequence)
    assert lab.take(30) == []
    assert len(lab.network.flows()) == 1


def test_restricted() -> None:
    lab = Lab(UserOptions(restrict=True))
    packet = lab.echo(SERVER)
    unreachable(lab.one(), 13, packet, GATEWAY)
    assert lab.counters["restricted"] == 1
    lab.echo(GATEWAY)
    is_reply(lab.one(), GATEWAY)


@pytest.mark.parametrize("kind", [IcmpType.ECHO_REPLY, IcmpType.SOURCE_QUENCH, IcmpType.TIMESTAMP, 200])
def test_other_messages_are_counted(kind: int) -> None:
    lab = Lab()
    for destination in (GATEWAY, SERVER):
        lab.ip(lab.packet(destination, Protocol.ICMP, Icmpv4(kind, 0, 0, IPv4(destination, GUEST, 17, bytes(8)).pack()).pack()))
    assert lab.take() == []
    assert lab.counters["icmp-ignored"] == 2


def test_sessions_are_bounded() -> None:
    lab = Lab()
    for identifier in range(100):
        lab.echo(SERVER, identifier=identifier)
    assert len(lab.take()) == 100
    assert len(lab.network.flows()) == 64
    assert lab.counters["ping-evicted"] == 36
