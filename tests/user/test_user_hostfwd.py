"""Forwarded ports: the only way in."""

import errno
from ipaddress import IPv4Address

import pytest
from user_driver import GATEWAY, GUEST, SERVER, Lab, unreachable

from netemu.errors import HostError, LocalError
from netemu.user.options import UserOptions
from netemu.wire.address import Endpoint
from netemu.wire.icmpv4 import Icmpv4
from netemu.wire.ipv4 import Protocol
from netemu.wire.tcp import ACK, PSH, RST, SYN, Tcp, TcpOptions

LOCALHOST = IPv4Address("127.0.0.1")


def answer_syn(lab: Lab, flags: int = SYN | ACK) -> Tcp:
    """Take the SYN for the guest and answer it; the SYN."""
    seen = lab.one()
    assert seen.tcp is not None
    assert seen.ip is not None
    opening = seen.tcp
    assert opening.flags == SYN
    lab.tcp(
        seen.ip.source,
        Tcp(opening.destination_port, opening.source_port, 5000, opening.sequence + 1, flags, 65_535, options=TcpOptions(mss=1460)),
    )
    return opening


def test_a_port_of_the_hosts_choice_is_reported() -> None:
    lab = Lab(UserOptions(hostfwd=("tcp:127.0.0.1:0-:80", "udp::0-:53")))
    tcp, udp = lab.user.forwards
    assert (tcp.protocol, tcp.host.address, tcp.guest) == ("tcp", LOCALHOST, Endpoint(GUEST, 80))
    assert (udp.protocol, udp.host.address, udp.guest) == ("udp", LOCALHOST, Endpoint(GUEST, 53))
    assert tcp.host.port
    assert udp.host.port


def test_tcp_from_loopback_comes_from_the_gateway() -> None:
    lab = Lab()
    forward = lab.user.add_hostfwd("tcp::2222-:22")
    with lab.host.tcp_connect("127.0.0.1", 2222) as client:
        opening = answer_syn(lab)
        assert opening.destination_port == 22
        (flow,) = lab.network.flows()
        assert flow.remote == Endpoint(GATEWAY, client.local.port)
        lab.take()
        client.send(b"ssh")
        seen = lab.take()
        assert [each.tcp.payload for each in seen if each.tcp] == [b"ssh"]
        lab.tcp(GATEWAY, Tcp(22, opening.source_port, 5001, opening.sequence + 4, ACK | PSH, 65_535, b"banner"))
        assert client.recv_exactly(6) == b"banner"
    assert forward in lab.user.forwards


def test_tcp_from_elsewhere_comes_from_there() -> None:
    lab = Lab()
    lab.user.add_hostfwd("tcp:0.0.0.0:2222-:22")
    stream = lab.host.open_stream(Endpoint(lab.host.address, 2222), Endpoint(SERVER, 0))
    answer_syn(lab)
    (flow,) = lab.network.flows()
    assert flow.remote == stream.local
    assert flow.remote.address == SERVER


def test_a_guest_that_refuses_is_a_reset() -> None:
    lab = Lab()
    lab.user.add_hostfwd("tcp::2222-:22")
    with lab.host.tcp_connect("127.0.0.1", 2222) as client:
        answer_syn(lab, RST | ACK)
        lab.run()
        assert client.socket.error == errno.ECONNRESET
    assert lab.network.flows() == ()


def test_a_guest_that_is_not_there_is_a_reset_after_three_seconds() -> None:
    lab = Lab(answers_arp=False)
    lab.user.add_hostfwd("tcp::2222-:22")
    with lab.host.tcp_connect("127.0.0.1", 2222) as client:
        lab.run(2.9)
        assert client.socket.error == 0
        lab.run(0.2)
        assert client.socket.error == errno.ECONNRESET
    assert lab.network.flows() == ()


@pytest.mark.parametrize("code", [1, 3, 13])
def test_a_guest_whose_firewall_rejects_is_a_reset(code: int) -> None:
    lab = Lab()
    lab.user.add_hostfwd("tcp::2222-:22")
    with lab.host.tcp_connect("127.0.0.1", 2222) as client:
        opening = lab.one().ip
        assert opening is not None
        lab.ip(lab.packet(GATEWAY, Protocol.ICMP, Icmpv4.unreachable(code, opening.pack()).pack()))
        lab.run()
        assert client.socket.error == errno.ECONNRESET
    assert lab.network.flows() == ()


def test_an_error_about_an_established_connection_does_not_end_it() -> None:
    lab = Lab()
    lab.user.add_hostfwd("tcp::2222-:22")
    with lab.host.tcp_connect("127.0.0.1", 2222) as client:
        answer_syn(lab)
        lab.take()
        client.send(b"x")
        segment = lab.one().ip
        assert segment is not None
        lab.ip(lab.packet(GATEWAY, Protocol.ICMP, Icmpv4.unreachable(3, segment.pack()).pack()))
        lab.run()
        assert client.socket.error == 0


@pytest.mark.parametrize(("said", "mtu"), [(600, 600), (0, 1006)])
def test_a_guest_whose_own_network_takes_less_gets_smaller_segments(said: int, mtu: int) -> None:
    """As a router for containers says it; a router that does not say how much gets the next plateau (RFC 1191 7)."""
    lab = Lab()
    lab.user.add_hostfwd("tcp::2222-:22")
    with lab.host.tcp_connect("127.0.0.1", 2222) as client:
        opening = answer_syn(lab)
        lab.take()
        client.send(bytes(1000))
        segment = lab.one().ip
        assert segment is not None
        error = Icmpv4.unreachable(4, segment.pack(), said)
        lab.ip(lab.packet(GATEWAY, Protocol.ICMP, error.pack()))
        received = 0
        while received < 1000:
            for seen in lab.take():
                assert seen.tcp is not None
                assert seen.ip is not None
                assert seen.ip.header_length + len(seen.ip.payload) <= mtu
                assert seen.ip.dont_fragment
                received += len(seen.tcp.payload)
            lab.tcp(GATEWAY, Tcp(22, opening.source_port, 5001, opening.sequence + 1 + received, ACK, 65_535))
        assert received == 1000


def test_two_clients_with_one_port_are_two_connections() -> None:
    """127.0.0.1:p and 127.0.0.2:p are both the gateway to the guest, so one gets another port."""
    lab = Lab()
    lab.user.add_hostfwd("tcp:0.0.0.0:2222-:22")
    for address in ("127.0.0.1", "127.0.0.2"):
        lab.host.open_stream(Endpoint(LOCALHOST, 2222), Endpoint(IPv4Address(address), 40_000))
    openings = [seen.tcp for seen in lab.take() if seen.tcp]
    assert len({opening.source_port for opening in openings}) == 2
    assert len(lab.network.flows()) == 2


def test_udp_peers_are_told_apart() -> None:
    lab = Lab()
    lab.user.add_hostfwd("udp::5353-:53")
    with lab.host.udp("127.0.0.1") as first, lab.host.udp("127.0.0.1") as second:
        first.send_to(b"1", "127.0.0.1", 5353)
        second.send_to(b"2", "127.0.0.1", 5353)
        seen = lab.take()
        assert [each.udp.payload for each in seen if each.udp] == [b"1", b"2"]
        assert {each.ip.source for each in seen if each.ip} == {GATEWAY}
        for each in seen:
            assert each.udp is not None
            assert each.udp.destination_port == 53
            lab.udp(GATEWAY, each.udp.source_port, b"re " + each.udp.payload, source_port=53)
        assert (first.recv().data, second.recv().data) == (b"re 1", b"re 2")
        assert {flow.remote for flow in lab.network.flows()} == {Endpoint(GATEWAY, first.port), Endpoint(GATEWAY, second.port)}


def test_udp_from_elsewhere_comes_from_there_and_the_reply_from_the_forward() -> None:
    lab = Lab()
    lab.user.add_hostfwd("udp:0.0.0.0:5353-:53")
    with lab.host.udp(SERVER) as client:
        client.send_to(b"q", lab.host.address, 5353)
        seen = lab.one()
        assert seen.ip is not None
        assert seen.udp is not None
        assert (seen.ip.source, seen.udp.source_port) == (SERVER, client.port)
        lab.udp(SERVER, client.port, b"a", source_port=53)
        assert client.recv().source == Endpoint(lab.host.address, 5353)


def test_a_peer_whose_address_a_guest_could_have_is_the_gateway() -> None:
    """The host may be on a 10.0.2.0/24 of its own; its neighbours are not the guest's."""
    lab = Lab()
    lab.host.add_address("10.0.2.50")
    lab.user.add_hostfwd("udp:0.0.0.0:5353-:53")
    with lab.host.udp("10.0.2.50") as client:
        client.send_to(b"q", lab.host.address, 5353)
        seen = lab.one()
        assert seen.ip is not None
        assert seen.udp is not None
        assert seen.ip.source == GATEWAY
        lab.udp(GATEWAY, seen.udp.source_port, b"a", source_port=53)
        assert client.recv().data == b"a"


def test_udp_peers_time_out_and_are_bounded() -> None:
    lab = Lab()
    lab.arp(1, GATEWAY)
    lab.take()
    lab.user.add_hostfwd("udp::5353-:53")
    socket = lab.host.udp_ports.find(Endpoint(LOCALHOST, 5353))
    for port in range(300):
        socket.arrive(b"x", Endpoint(LOCALHOST, 1000 + port), 64)
    lab.run()
    assert len(lab.network.flows()) == 256
    assert lab.counters["udp-evicted"] == 44
    lab.run(300)
    assert lab.network.flows() == ()
    assert not lab.network._forwards._by_guest


def test_replies_keep_a_udp_peer() -> None:
    lab = Lab()
    lab.user.add_hostfwd("udp::5353-:53")
    with lab.host.udp("127.0.0.1", 6000) as client:
        client.send_to(b"q", "127.0.0.1", 5353)
        for _ in range(3):
            lab.run(200)
            lab.udp(GATEWAY, 6000, b"a", source_port=53)
        lab.run()
        (flow,) = lab.network.flows()
        assert (flow.sent, flow.received) == (3, 1)


def test_a_reply_that_the_host_refuses_is_reported() -> None:
    lab = Lab()
    lab.user.add_hostfwd("udp:0.0.0.0:5353-:53")
    lab.host.udp(SERVER, 6000).send_to(b"q", lab.host.address, 5353)
    lab.take()
    lab.host.unreachable(f"{SERVER}/32", errno.EHOSTUNREACH)
    packet = lab.udp(SERVER, 6000, b"a", source_port=53)
    unreachable(lab.one(), 1, packet, GATEWAY)
    assert lab.counters["udp-refused"] == 1
    assert [(refusal.guest, refusal.destination) for refusal in lab.user.refusals] == [(Endpoint(GUEST, 53), SERVER)]


def test_an_error_before_any_reply_is_nobodys() -> None:
    lab = Lab()
    lab.user.add_hostfwd("udp::5353-:53")
    client = lab.host.udp("127.0.0.1", 6000)
    client.send_to(b"q", "127.0.0.1", 5353)
    lab.take()
    socket = lab.host.udp_ports.find(Endpoint(LOCALHOST, 5353))
    for port in (6000, 6001):
        socket.on_error(errno.ECONNREFUSED, Endpoint(LOCALHOST, port))
    assert lab.take() == []


def test_a_connection_that_comes_when_too_much_waits_is_reset() -> None:
    lab = Lab()
    lab.user.add_hostfwd("tcp::2222-:22")
    with lab.host.udp(SERVER, 9):
        lab.udp(SERVER, 9, b"x")
        lab.take()
    waiting = lab.host.udp_ports.find(Endpoint(lab.host.address, 5000))
    lab.port.receiver = lambda octets, header: False  # a guest that takes nothing: what the host says has to wait
    lab.echo(GATEWAY)
    lab.run()
    for _ in range(1024):
        waiting.arrive(b"y", Endpoint(SERVER, 9), 64)
    with pytest.raises(HostError, match="ECONNRESET"):
        lab.host.tcp_connect("127.0.0.1", 2222)
    assert lab.counters["inbox-full"] == 1


def test_a_udp_peer_that_is_gone_is_reported_to_the_guest() -> None:
    lab = Lab()
    lab.user.add_hostfwd("udp::5353-:53")
    client = lab.host.udp("127.0.0.1")
    client.send_to(b"q", "127.0.0.1", 5353)
    seen = lab.one()
    client.close()
    assert seen.udp is not None
    packet = lab.udp(GATEWAY, seen.udp.source_port, b"a", source_port=53)
    unreachable(lab.one(), 3, packet, GATEWAY)


def test_added_and_removed_while_it_runs() -> None:
    lab = Lab()
    forward = lab.user.add_hostfwd("tcp::2222-:22")
    client = lab.host.tcp_connect("127.0.0.1", 2222)
    opening = answer_syn(lab)
    lab.take()
    lab.user.remove_hostfwd(forward)
    assert lab.user.forwards == ()
    with pytest.raises(HostError, match="ECONNREFUSED"):
        lab.host.tcp_connect("127.0.0.1", 2222)
    lab.tcp(GATEWAY, Tcp(22, opening.source_port, 5001, opening.sequence + 1, ACK | PSH, 65_535, b"goes on"))
    assert client.recv_exactly(7) == b"goes on"
    with pytest.raises(LocalError, match="cannot be removed"):
        lab.user.remove_hostfwd(forward)


def test_a_removed_udp_forward_forgets_its_peers() -> None:
    lab = Lab()
    forward = lab.user.add_hostfwd("udp::5353-:53")
    with lab.host.udp("127.0.0.1") as client:
        client.send_to(b"q", "127.0.0.1", 5353)
        lab.take()
        lab.user.remove_hostfwd(forward)
        assert lab.network.flows() == ()
        assert not lab.network._forwards._by_guest
        client.send_to(b"q", "127.0.0.1", 5353)
        assert lab.take() == []


def test_a_port_in_use_is_the_hosts_error_and_leaves_nothing_behind() -> None:
    lab = Lab()
    with lab.host.tcp_listen("127.0.0.1", 2222), pytest.raises(HostError, match="EADDRINUSE"):
        lab.user.add_hostfwd("tcp::2222-:22")
    with pytest.raises(HostError, match="EADDRNOTAVAIL"):
        lab.user.add_hostfwd("tcp:192.0.2.99:2222-:22")
    assert lab.user.forwards == ()
    lab.user.add_hostfwd("tcp::2222-:22")


@pytest.mark.parametrize("guests", ["80", "80-82"])
def test_a_range_is_one_forward(guests: str) -> None:
    lab = Lab()
    forward = lab.user.add_hostfwd(f"tcp::8000-8002-:{guests}")
    assert (str(forward), forward.count) == ("tcp:127.0.0.1:8000-8002-10.0.2.15:80-82", 3)
    for number in range(3):
        with lab.host.tcp_connect("127.0.0.1", 8000 + number):
            assert answer_syn(lab).destination_port == 80 + number
        lab.take()
    lab.user.remove_hostfwd(forward)
    assert lab.user.forwards == ()
    for number in range(3):
        lab.host.tcp_listen("127.0.0.1", 8000 + number)


def test_a_range_of_udp() -> None:
    lab = Lab()
    forward = lab.user.add_hostfwd("udp::8000-8001-:80")
    with lab.host.udp("127.0.0.1", 6000) as client:
        for number in range(2):
            client.send_to(b"q", "127.0.0.1", 8000 + number)
            seen = lab.one()
            assert seen.udp is not None
            assert seen.udp.destination_port == 80 + number
            lab.udp(GATEWAY, seen.udp.source_port, b"a", source_port=80 + number)
            assert client.recv().source == Endpoint(LOCALHOST, 8000 + number)
        lab.user.remove_hostfwd(forward)
        assert lab.network.flows() == ()


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_range_is_had_whole_or_not_at_all(protocol: str) -> None:
    lab = Lab()
    take = lab.host.tcp_listen if protocol == "tcp" else lab.host.udp
    taken = take("127.0.0.1", 8002)
    with pytest.raises(HostError, match="EADDRINUSE"):
        lab.user.add_hostfwd(f"{protocol}::8000-8003-:80")
    assert lab.user.forwards == ()
    taken.close()
    for number in range(4):
        take("127.0.0.1", 8000 + number).close()


def test_restricted_keeps_its_forwards() -> None:
    lab = Lab(UserOptions(restrict=True, hostfwd=("tcp::2222-:22", "udp::5353-:53")))
    with lab.host.tcp_connect("127.0.0.1", 2222):
        answer_syn(lab)
        lab.take()
        assert lab.network.flows()[0].state == "ESTABLISHED"
    with lab.host.udp("127.0.0.1") as client:
        client.send_to(b"q", "127.0.0.1", 5353)
        asked = [seen.udp for seen in lab.take() if seen.udp]
        lab.udp(GATEWAY, asked[0].source_port, b"a", source_port=53)
        assert client.recv().data == b"a"


def test_there_is_no_other_way_in() -> None:
    lab = Lab()
    with pytest.raises(HostError, match="ENETUNREACH"):
        lab.host.tcp_connect(GUEST, 22)
    assert lab.take() == []


def test_closing_gives_back_every_port() -> None:
    lab = Lab(UserOptions(hostfwd=("tcp::2222-:22", "udp::5353-:53")))
    lab.user.close()
    assert lab.user.forwards == ()
    lab.host.tcp_listen("127.0.0.1", 2222)
    lab.host.udp("127.0.0.1", 5353)
