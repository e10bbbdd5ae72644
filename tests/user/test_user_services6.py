"""IPv6 through a user-mode network: echo, UDP, TCP, names, forwarded ports, restrictions, and the errors about each."""

import errno
from ipaddress import IPv6Address
from pathlib import Path

import pytest
from user_driver6 import ANY, DNS, GATEWAY, GUEST, LINK_LOCAL, ROUTER, SERVER, Lab6, Seen, is_error

from netemu.user.options import UserOptions
from netemu.wire import tftp
from netemu.wire.address import Endpoint
from netemu.wire.dhcpv6 import Dhcpv6, Dhcpv6MessageType, Dhcpv6Option
from netemu.wire.dns import DnsMessage, Question, RecordType
from netemu.wire.icmpv6 import Icmpv6, Icmpv6Type
from netemu.wire.ipv6 import ALL_NODES, Extension, Fragment6, IPv6, NextHeader
from netemu.wire.tcp import ACK, PSH, RST, SYN, Tcp, TcpOptions
from netemu.wire.udp import Udp

FAR = IPv6Address("2001:db8:9::1")
QUERY = DnsMessage(0x4242, (Question("www.example.org", RecordType.A),), recursion_desired=True)
UNREACHABLE = Icmpv6Type.DESTINATION_UNREACHABLE


def is_echo_reply(seen: Seen, source: IPv6Address, payload: bytes = b"ping") -> None:
    assert seen.icmp == Icmpv6.echo_reply(7, 1, payload)
    assert (seen.ip.source, seen.ip.destination, seen.ip.hop_limit) == (source, GUEST, 64)


# Echo


@pytest.mark.parametrize("target", [GATEWAY, DNS])
def test_the_networks_addresses_answer(target: IPv6Address) -> None:
    lab = Lab6(UserOptions(restrict=True))
    lab.echo(target, hop_limit=1)
    is_echo_reply(lab.one(), target)


def test_the_router_answers_on_the_link() -> None:
    lab = Lab6()
    lab.echo(ROUTER, source=LINK_LOCAL)
    seen = lab.one()
    assert (seen.ip.source, seen.ip.destination) == (ROUTER, LINK_LOCAL)


def test_echo_beyond_has_three_honest_outcomes() -> None:
    lab = Lab6()
    lab.echo(SERVER)
    is_echo_reply(lab.one(), SERVER)
    about = lab.echo(FAR)
    is_error(lab.one(), UNREACHABLE, 0, about, GATEWAY)
    lab.host.set_ping_group_range(1, 0)
    about = lab.ip(IPv6(GUEST, SERVER, NextHeader.ICMPV6, Icmpv6.echo_request(8, 1, b"x").pack(GUEST, SERVER)))
    is_error(lab.one(), UNREACHABLE, 1, about, GATEWAY)
    assert lab.counters["ping-forbidden"] == 1
    assert lab.user.refusals[-1].guest == Endpoint(GUEST, 8)


def test_silence_is_silence() -> None:
    lab = Lab6()
    lab.host.blackhole("2001:db8:9::/64")
    lab.echo(FAR)
    assert lab.take(30) == []


# Where a packet may go


def test_the_hop_limit_ends_at_the_gateway() -> None:
    lab = Lab6()
    about = lab.udp(SERVER, 9, b"x", hop_limit=1)
    is_error(lab.one(), Icmpv6Type.TIME_EXCEEDED, 0, about, GATEWAY)


def test_the_hop_limit_is_one_less_behind_the_gateway() -> None:
    lab = Lab6()
    with lab.host.udp(SERVER, 9) as server:
        lab.udp(SERVER, 9, b"x", hop_limit=17)
        assert server.recv().data == b"x"
        assert server.socket.last_ttl == 16


def test_a_neighbour_is_not_forwarded_to() -> None:
    lab = Lab6()
    about = lab.echo(IPv6Address("fec0::99"))
    is_error(lab.one(), UNREACHABLE, 3, about, GATEWAY)


def test_a_link_local_source_goes_no_further() -> None:
    lab = Lab6()
    about = lab.echo(SERVER, source=LINK_LOCAL)
    is_error(lab.one(), UNREACHABLE, 2, about, GATEWAY)


@pytest.mark.parametrize("source", [SERVER, ANY, ALL_NODES, GATEWAY, IPv6Address("::1")])
def test_sources_that_no_guest_has(source: IPv6Address) -> None:
    lab = Lab6()
    lab.echo(GATEWAY, source=source)
    assert lab.take(2) == []
    assert lab.counters["source-refused"] == 1


@pytest.mark.parametrize("destination", [ANY, IPv6Address("::1")])
def test_destinations_that_are_nowhere(destination: IPv6Address) -> None:
    lab = Lab6()
    lab.echo(destination)
    assert lab.take(2) == []
    assert lab.counters["destination-refused"] == 1


def test_an_unknown_protocol_is_a_parameter_problem() -> None:
    lab = Lab6()
    about = lab.ip(IPv6(GUEST, SERVER, 132, b"sctp?"))
    assert is_error(lab.one(), Icmpv6Type.PARAMETER_PROBLEM, 1, about, GATEWAY).pointer == 6


def test_no_error_about_an_error_or_a_group() -> None:
    lab = Lab6()
    lab.icmp(FAR, Icmpv6.unreachable(0, b"x" * 48), hop_limit=1)
    lab.udp(ALL_NODES, 9, b"x")
    assert lab.take(2) == []


def test_the_ipv6_side_can_be_off() -> None:
    lab = Lab6(UserOptions(ipv6=False))
    lab.echo(GATEWAY)
    assert lab.take(2) == []
    assert lab.counters["ethertype-ignored"] == 1


# Fragments and extension headers


def fragments(destination: IPv6Address, size: int) -> list[IPv6]:
    message = Icmpv6.echo_request(7, 1, bytes(size)).pack(GUEST, destination)
    return [
        IPv6(
            GUEST,
            destination,
            NextHeader.ICMPV6,
            message[begin : begin + 1000],
            extensions=(Fragment6(begin, begin + 1000 < len(message), 99).extension(),),
        )
        for begin in range(0, len(message), 1000)
    ]


def test_fragments_there_and_back() -> None:
    lab = Lab6()
    for piece in reversed(fragments(GATEWAY, 4000)):
        lab.ip(piece)
    seen = lab.take()
    assert len(seen) == 3
    assert all(len(each.ip.pack()) <= 1500 and each.ip.is_fragment for each in seen)
    offsets = [(each.ip.fragment.offset, each.ip.fragment.more) for each in seen if each.ip.fragment]
    assert offsets == [(0, True), (1448, True), (2896, False)]
    assert b"".join(each.ip.payload for each in seen)[8:] == bytes(4000)


def test_fragments_that_stay_incomplete() -> None:
    lab = Lab6()
    first = lab.ip(fragments(SERVER, 2000)[0])
    assert lab.take(59) == []
    is_error(lab.one(2), Icmpv6Type.TIME_EXCEEDED, 1, first, GATEWAY)


def test_a_fragment_of_an_odd_length() -> None:
    lab = Lab6()
    about = lab.ip(IPv6(GUEST, SERVER, NextHeader.UDP, bytes(11), extensions=(Fragment6(0, True, 5).extension(),)))
    assert is_error(lab.one(), Icmpv6Type.PARAMETER_PROBLEM, 0, about, GATEWAY).pointer == 4


def with_options(kind: int, *options: int) -> tuple[Extension, ...]:
    """An extension header of eight octets that holds one option of two octets for each type, then padding."""
    data = b"".join(bytes((option, 0)) for option in options)
    return (Extension(kind, data.ljust(6, b"\0")),)


@pytest.mark.parametrize("kind", [NextHeader.HOP_BY_HOP, NextHeader.DESTINATION_OPTIONS])
def test_options_that_may_be_skipped(kind: int) -> None:
    lab = Lab6()
    message = Icmpv6.echo_request(7, 1, b"ping").pack(GUEST, GATEWAY)
    lab.ip(IPv6(GUEST, GATEWAY, NextHeader.ICMPV6, message, extensions=with_options(kind, 0x3E)))
    is_echo_reply(lab.one(), GATEWAY)


@pytest.mark.parametrize(("option", "told"), [(0x7E, False), (0xBE, True), (0xFE, True)])
def test_options_that_end_the_packet(option: int, told: bool) -> None:
    lab = Lab6()
    message = Icmpv6.echo_request(7, 1, b"ping").pack(GUEST, GATEWAY)
    packet = IPv6(GUEST, GATEWAY, NextHeader.ICMPV6, message, extensions=with_options(NextHeader.DESTINATION_OPTIONS, 1, option))
    lab.ip(packet)
    if told:
        assert is_error(lab.one(), Icmpv6Type.PARAMETER_PROBLEM, 2, packet, GATEWAY).pointer == 44
    assert lab.take(1) == []
    assert lab.counters["extension-refused"] == 1


@pytest.mark.parametrize(("kind", "left"), [(0, 1), (2, 1), (200, 3)])
def test_a_way_that_nobody_here_goes(kind: int, left: int) -> None:
    lab = Lab6()
    message = Icmpv6.echo_request(7, 1, b"ping").pack(GUEST, GATEWAY)
    routing = Extension(NextHeader.ROUTING, bytes((kind, left)) + bytes(4))
    about = lab.ip(IPv6(GUEST, GATEWAY, NextHeader.ICMPV6, message, extensions=(routing,)))
    assert is_error(lab.one(), Icmpv6Type.PARAMETER_PROBLEM, 0, about, GATEWAY).pointer == 42
    lab.ip(
        IPv6(GUEST, GATEWAY, NextHeader.ICMPV6, message, extensions=(Extension(NextHeader.ROUTING, bytes((kind, 0, 0, 0, 0, 0))),))
    )
    is_echo_reply(lab.one(), GATEWAY)


def test_ports_are_behind_the_extension_headers() -> None:
    lab = Lab6()
    payload = Udp(5000, 9, b"x").pack(GUEST, SERVER)
    with lab.host.udp(SERVER, 9) as server:
        lab.ip(IPv6(GUEST, SERVER, NextHeader.UDP, payload, extensions=with_options(NextHeader.HOP_BY_HOP, 1)))
        assert server.recv().source.port == 5000


def test_nothing_follows() -> None:
    lab = Lab6()
    lab.ip(IPv6(GUEST, GATEWAY, NextHeader.NO_NEXT_HEADER, b""))
    assert lab.take(1) == []
    assert lab.counters["no-next-header"] == 1


# UDP


def test_udp_there_and_back() -> None:
    lab = Lab6()
    with lab.host.udp(SERVER, 9) as server:
        lab.udp(SERVER, 9, b"question")
        question = server.recv()
        server.send_to(b"answer", question.source.address, question.source.port)
        seen = lab.one()
    assert (seen.ip.source, seen.udp) == (SERVER, Udp(9, 5000, b"answer"))
    (flow,) = lab.network.flows()
    assert (flow.protocol, flow.guest, flow.sent, flow.received) == ("udp", Endpoint(GUEST, 5000), 8, 6)


def test_the_gateway_is_the_hosts_loopback() -> None:
    lab = Lab6()
    with lab.host.udp("::1", 9) as server:
        lab.udp(GATEWAY, 9, b"x")
        source = server.recv().source
        server.send_to(b"y", source.address, source.port)
        seen = lab.one()
    assert (seen.ip.source, seen.udp) == (GATEWAY, Udp(9, 5000, b"y"))


def test_a_closed_port_is_said_by_the_address_that_was_asked() -> None:
    lab = Lab6()
    about = lab.udp(SERVER, 9, b"x" * 1400)
    is_error(lab.one(), UNREACHABLE, 4, about, SERVER)
    about = lab.udp(DNS, 9, b"x")
    is_error(lab.one(), UNREACHABLE, 4, about, DNS)


@pytest.mark.parametrize(("error", "code"), [(errno.ENETUNREACH, 0), (errno.EHOSTUNREACH, 3)])
def test_where_there_is_no_way(error: int, code: int) -> None:
    lab = Lab6()
    lab.host.unreachable("2001:db8:9::/64", error)
    about = lab.udp(FAR, 9, b"x")
    is_error(lab.one(), UNREACHABLE, code, about, GATEWAY)


def test_a_datagram_without_checksum_is_malformed() -> None:
    lab = Lab6()
    payload = bytearray(Udp(5000, 9, b"x").pack(GUEST, SERVER))
    payload[6:8] = bytes(2)
    lab.ip(IPv6(GUEST, SERVER, NextHeader.UDP, bytes(payload)))
    assert lab.take(1) == []
    assert lab.counters["malformed-udp"] == 1


# TCP


def syn(port: int = 80, mss: int | None = 1440) -> Tcp:
    return Tcp(4000, port, 1000, 0, SYN, 65_535, options=TcpOptions(mss=mss))


def segment(lab: Lab6) -> Tcp:
    seen = lab.one()
    assert seen.tcp is not None, seen
    return seen.tcp


def test_a_connection_outwards() -> None:
    lab = Lab6()
    with lab.host.tcp_listen(SERVER, 80) as listener:
        lab.tcp(SERVER, syn())
        answer = segment(lab)
        assert (answer.flags, answer.acknowledgment, answer.options.mss) == (SYN | ACK, 1001, 1440)
        lab.tcp(SERVER, Tcp(4000, 80, 1001, answer.sequence + 1, ACK | PSH, 65_535, b"hello"))
        served = listener.accept()
        assert served.recv() == b"hello"
        served.send(b"x" * 3000)
        sizes = [len(seen.tcp.payload) for seen in lab.take() if seen.tcp and seen.tcp.payload]
    assert sizes[:2] == [1440, 1440]


def test_a_refused_connection() -> None:
    lab = Lab6()
    lab.tcp(SERVER, syn(81))
    assert segment(lab).flags == RST | ACK
    about = lab.tcp(FAR, syn(81))
    is_error(lab.one(), UNREACHABLE, 0, about, GATEWAY)


@pytest.mark.parametrize(
    ("rule", "host"),
    [("tcp:[::1]:2222-[fec0::15]:22", "::1"), ("tcp:[::1]:2222-:22", "::1"), ("tcp::2222-[fec0::15]:22", "127.0.0.1")],
)
def test_a_connection_inwards(rule: str, host: str) -> None:
    lab = Lab6()
    lab.user.add_hostfwd(rule)
    with lab.host.tcp_connect(host, 2222) as client:
        seen = lab.one()
        opening = seen.tcp
        assert opening is not None
        assert (seen.ip.source, seen.ip.destination, opening.flags, opening.destination_port) == (GATEWAY, GUEST, SYN, 22)
        lab.tcp(GATEWAY, Tcp(22, opening.source_port, 5000, opening.sequence + 1, SYN | ACK, 65_535, options=TcpOptions(mss=1440)))
        lab.take()
        client.send(b"hello")
        assert segment(lab).payload == b"hello"


def test_udp_inwards() -> None:
    lab = Lab6(UserOptions(hostfwd=("udp:[::1]:5353-:53",), restrict=True))
    with lab.host.udp("::1", 0) as client:
        client.send_to(b"question", "::1", 5353)
        seen = lab.one()
        assert seen.udp is not None
        assert (seen.ip.source, seen.udp.destination_port, seen.udp.payload) == (GATEWAY, 53, b"question")
        lab.udp(GATEWAY, seen.udp.source_port, b"answer", source_port=53)
        assert client.recv().data == b"answer"


def test_a_peer_from_afar_keeps_its_address() -> None:
    lab = Lab6(UserOptions(hostfwd=("udp:[::]:5353-:53",)))
    with lab.host.udp(SERVER, 7777) as client:
        client.send_to(b"question", "::1", 5353)
        seen = lab.one()
    assert seen.udp is not None
    assert (seen.ip.source, seen.udp.source_port) == (SERVER, 7777)


# Names


@pytest.mark.parametrize("server", ["127.0.0.53", "::1"])
@pytest.mark.parametrize("asked", [DNS, IPv6Address("fe80::3")])
def test_questions_go_to_the_hosts_server_of_either_family(server: str, asked: IPv6Address) -> None:
    lab = Lab6()
    lab.host.dns_server({"www.example.org": "192.0.2.80"}, server)
    lab.udp(asked, 53, QUERY.pack())
    seen = lab.one()
    assert seen.udp is not None
    assert (seen.ip.source, seen.udp.source_port) == (asked, 53)
    assert [str(record.address) for record in DnsMessage.parse(seen.udp.payload).answers] == ["192.0.2.80"]


def test_names_over_tcp() -> None:
    lab = Lab6()
    lab.host.dns_server({"www.example.org": "192.0.2.80"})
    lab.tcp(DNS, syn(53))
    assert segment(lab).flags == SYN | ACK


# Files


def test_files_by_the_url_that_dhcp_tells(tmp_path: Path) -> None:
    """Option 59 (RFC 5970 3.1) leads to the file, which comes from a port of its own."""
    (tmp_path / "pxe.0").write_bytes(bytes(2000))
    lab = Lab6(UserOptions(tftp=str(tmp_path), bootfile="pxe.0"))
    asked = ((int(Dhcpv6Option.CLIENTID), bytes(10)), (int(Dhcpv6Option.ORO), int(Dhcpv6Option.BOOTFILE_URL).to_bytes(2, "big")))
    lab.dhcp(Dhcpv6(Dhcpv6MessageType.INFORMATION_REQUEST, 1, asked))
    url = lab.one().dhcp.value(Dhcpv6Option.BOOTFILE_URL)
    assert url == f"tftp://[{GATEWAY}]/pxe.0".encode()
    lab.udp(GATEWAY, 69, tftp.Request(tftp.Opcode.RRQ, "pxe.0", "octet", {"blksize": "1024"}).pack())
    received, answer = b"", lab.one()
    for number in range(3):
        assert answer.udp is not None
        assert answer.ip.source == GATEWAY
        port = answer.udp.source_port
        assert port != 69
        packet = tftp.parse(answer.udp.payload)
        if number:
            assert isinstance(packet, tftp.Data)
            received += packet.data
        lab.udp(GATEWAY, port, tftp.Acknowledgment(number).pack())
        answer = lab.one() if number < 2 else answer
    assert received == bytes(2000)
    assert lab.take(30) == []


# Restrictions


def test_a_restricted_guest_gets_nowhere() -> None:
    lab = Lab6(UserOptions(restrict=True))
    lab.host.dns_server({"www.example.org": "192.0.2.80"})
    for send in (
        lambda: lab.udp(SERVER, 9, b"x"),
        lambda: lab.echo(SERVER),
        lambda: lab.udp(DNS, 53, QUERY.pack()),
    ):
        about = send()
        is_error(lab.one(), UNREACHABLE, 1, about, GATEWAY)
    lab.tcp(SERVER, syn())
    assert segment(lab).flags == RST | ACK
    assert lab.counters["restricted"] == 4


def test_a_guest_that_rejects_a_forward_says_so() -> None:
    lab = Lab6()
    lab.user.add_hostfwd("tcp:[::1]:2222-[fec0::15]:22")
    stream = lab.host.open_stream(Endpoint(IPv6Address("::1"), 2222))
    opening = lab.one()
    lab.icmp(GATEWAY, Icmpv6.unreachable(1, opening.ip.pack()))
    lab.run()
    assert stream.error == errno.ECONNRESET
    assert lab.network.flows() == ()
