"""TCP through the network, segment by segment: the handshake's order, refusals, resets, half-closes, limits (RFC 5382)."""

import errno
from ipaddress import IPv4Address

import pytest
from user_driver import DNS, GATEWAY, GUEST, SERVER, SMB, Lab, unreachable

from netemu.errors import HostError
from netemu.io.simsockets import SimStream
from netemu.net.sockets import StreamSocket
from netemu.user.options import UserOptions
from netemu.wire.address import Endpoint
from netemu.wire.arp import ArpOperation
from netemu.wire.icmpv4 import Icmpv4
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.tcp import ACK, FIN, PSH, RST, SYN, URG, Tcp, TcpOptions

FAR = IPv4Address("203.0.113.9")
ISS = 1000


def syn(port: int = 80, source_port: int = 4000, mss: int | None = 1460) -> Tcp:
    return Tcp(source_port, port, ISS, 0, SYN, 65_535, options=TcpOptions(mss=mss))


def is_reset(lab: Lab, about: Tcp) -> None:
    seen = lab.one()
    assert seen.tcp is not None, seen
    assert (seen.tcp.flags, seen.tcp.sequence) == (RST | ACK, 0)
    assert seen.tcp.acknowledgment == about.sequence + 1
    assert (seen.tcp.source_port, seen.tcp.destination_port) == (about.destination_port, about.source_port)


class Conversation:
    """A connection of the guest's to a server on the host, established."""

    def __init__(self, lab: Lab, port: int = 80) -> None:
        self.lab = lab
        self.listener = lab.host.tcp_listen(SERVER, port)
        lab.tcp(SERVER, syn(port))
        answer = lab.one().tcp
        assert answer is not None
        assert answer.flags == SYN | ACK
        assert answer.acknowledgment == ISS + 1
        assert answer.window == 65_535  # the room that the host's stream has now that it is connected
        self.peer = answer.sequence + 1
        self.sent = ISS + 1
        self.port = port
        self.say()
        self.server = self.listener.accept()

    def say(self, flags: int = ACK, payload: bytes = b"", *, window: int = 65_535) -> None:
        self.lab.tcp(SERVER, Tcp(4000, self.port, self.sent, self.peer, flags, window, payload))
        self.sent += len(payload) + bool(flags & FIN)

    def hear(self, seconds: float = 0.0) -> list[Tcp]:
        """The segments from the server, each acknowledged by number (not by a segment)."""
        segments = [seen.tcp for seen in self.lab.take(seconds) if seen.tcp]
        for segment in segments:
            if segment.sequence == self.peer:
                self.peer += segment.segment_length
        return segments


def test_the_handshake_waits_for_the_host() -> None:
    lab = Lab()
    lab.host.blackhole("203.0.113.0/24")
    lab.tcp(FAR, syn())
    assert lab.take(60) == []
    (flow,) = lab.network.flows()
    assert (flow.protocol, flow.state, flow.guest, flow.remote) == ("tcp", "CONNECTING", Endpoint(GUEST, 4000), Endpoint(FAR, 80))


def test_bytes_both_ways() -> None:
    talk = Conversation(Lab())
    talk.say(ACK | PSH, b"hello")
    assert talk.server.recv_exactly(5) == b"hello"
    talk.server.send(b"world")
    assert b"".join(segment.payload for segment in talk.hear()) == b"world"
    talk.say()
    talk.lab.run()
    (flow,) = talk.lab.network.flows()
    assert (flow.state, flow.sent, flow.received) == ("ESTABLISHED", 5, 5)


def test_the_guests_mss_is_kept_to() -> None:
    lab = Lab()
    with lab.host.tcp_listen(SERVER, 80) as listener:
        lab.tcp(SERVER, syn(mss=536))
        answer = lab.one().tcp
        assert answer is not None
        assert answer.options.mss == 1460
        lab.tcp(SERVER, Tcp(4000, 80, ISS + 1, answer.sequence + 1, ACK, 65_535))
        listener.accept().send(bytes(5000))
        sizes = [len(seen.tcp.payload) for seen in lab.take() if seen.tcp]
    assert max(sizes) == 536


def test_the_mss_follows_the_mtu() -> None:
    lab = Lab(UserOptions(mtu=9000))
    with lab.host.tcp_listen(SERVER, 80):
        lab.tcp(SERVER, syn())
        answer = lab.one().tcp
    assert answer is not None
    assert answer.options.mss == 8960


def test_half_close_by_the_guest() -> None:
    talk = Conversation(Lab())
    talk.say(ACK | FIN, b"last words")
    assert talk.server.recv_all() == b"last words"
    talk.server.send(b"still here")
    assert b"".join(segment.payload for segment in talk.hear()) == b"still here"
    talk.say()
    talk.server.close()
    assert talk.hear()[-1].flags & FIN
    talk.say()
    talk.lab.run()
    assert talk.lab.network.flows() == ()


def test_half_close_by_the_server() -> None:
    talk = Conversation(Lab())
    talk.server.send(b"all I have")
    talk.server.shutdown()
    heard = talk.hear()
    assert b"".join(segment.payload for segment in heard) == b"all I have"
    assert heard[-1].flags & FIN
    talk.say(ACK, b"thank you")
    talk.lab.run()
    assert talk.server.recv_exactly(9) == b"thank you"
    assert talk.lab.network.flows()[0].state == "FIN-WAIT-2"
    talk.say(ACK | FIN)
    assert talk.server.recv_all() == b""
    assert talk.lab.network.flows()[0].state == "TIME-WAIT"
    talk.lab.run(60)
    assert talk.lab.network.flows() == ()


def test_a_guests_urgent_data_is_marked_where_it_ends() -> None:
    """The pointer is ahead of the data; it points behind the third octet of the second segment."""
    lab = Lab()
    flow = Conversation(lab)
    lab.tcp(SERVER, Tcp(4000, 80, flow.sent, flow.peer, ACK | URG, 65_535, b"abc", 6))
    flow.sent += 3
    assert flow.server.recv() == b"abc"
    flow.say(payload=b"def and on")
    flow.hear()
    assert flow.server.socket.urgent == 3
    assert flow.server.recv() == b"def and on"
    assert flow.server.socket.urgent == 0


def test_a_servers_urgent_data_is_pointed_at_until_it_is_acknowledged() -> None:
    lab = Lab()
    flow = Conversation(lab)
    flow.server.send_urgent(b"x" * 2000)
    flow.server.send(b"y" * 1000)
    begin = flow.peer
    segments = flow.hear()
    assert b"".join(segment.payload for segment in segments) == b"x" * 2000 + b"y" * 1000
    assert [segment.urgent_pointer for segment in segments] == [max(begin + 2000 - segment.sequence, 0) for segment in segments]
    assert [bool(segment.flags & URG) for segment in segments] == [segment.sequence < begin + 2000 for segment in segments]
    assert len({segment.flags & URG for segment in segments}) == 2


def test_a_guests_reset_is_a_reset() -> None:
    talk = Conversation(Lab())
    talk.say(RST)
    talk.lab.run()
    assert talk.server.socket.error == errno.ECONNRESET
    assert talk.lab.network.flows() == ()


def test_a_servers_reset_is_a_reset() -> None:
    talk = Conversation(Lab())
    talk.server.abort()
    (segment,) = talk.hear()
    assert segment.flags & RST
    assert segment.sequence == talk.peer - 1 or segment.sequence == talk.peer
    assert talk.lab.network.flows() == ()
    assert talk.lab.counters["tcp-host-reset"] == 1


def test_what_the_host_does_not_take_is_not_acknowledged() -> None:
    talk = Conversation(Lab())
    sent = 0
    for _ in range(100):
        talk.say(ACK, bytes(1460))
        sent += 1460
    window = [seen.tcp for seen in talk.lab.take(1) if seen.tcp][-1]
    taken = window.acknowledgment - (ISS + 1)
    assert taken <= 65_536 < sent
    assert window.window == 0
    assert len(talk.server.recv_exactly(taken)) == taken
    update = [seen.tcp for seen in talk.lab.take(1) if seen.tcp][-1]
    assert update.acknowledgment == window.acknowledgment
    assert update.window > 0


def test_a_closed_port_is_a_reset() -> None:
    lab = Lab()
    lab.tcp(SERVER, syn())
    is_reset(lab, syn())
    assert lab.counters["tcp-econnrefused"] == 1
    assert lab.network.flows() == ()


@pytest.mark.parametrize(("destination", "port"), [(DNS, 80), (DNS, 53), (SMB, 445), (SMB, 139), (GATEWAY, 80)])
def test_closed_ports_of_our_own(destination: IPv4Address, port: int) -> None:
    """Port 53 of the DNS address too: this host has no name server."""
    lab = Lab()
    lab.tcp(destination, syn(port))
    is_reset(lab, syn(port))


@pytest.mark.parametrize(("error", "code"), [(errno.ENETUNREACH, 0), (errno.EHOSTUNREACH, 1)])
@pytest.mark.parametrize("reporter", [None, "192.0.2.1"])
def test_unreachable(error: int, code: int, reporter: str | None) -> None:
    lab = Lab()
    lab.host.unreachable("203.0.113.0/24", error, reporter=reporter)
    packet = lab.tcp(FAR, syn())
    unreachable(lab.one(), code, packet, GATEWAY)
    assert lab.network.flows() == ()


def test_nobody_answers() -> None:
    lab = Lab()
    lab.host.blackhole("203.0.113.0/24")
    lab.tcp(FAR, syn())
    assert lab.take(130) == []
    assert lab.counters["tcp-etimedout"] == 1
    assert lab.network.flows() == ()


def test_the_gateway_is_the_hosts_loopback() -> None:
    lab = Lab()
    with lab.host.tcp_listen("127.0.0.1", 80) as listener:
        lab.tcp(GATEWAY, syn())
        answer = lab.one()
        assert answer.tcp is not None
        assert answer.ip is not None
        assert (answer.ip.source, answer.tcp.flags) == (GATEWAY, SYN | ACK)
        assert str(listener.accept().remote.address) == "127.0.0.1"


def test_dns_over_tcp_goes_to_the_name_server() -> None:
    lab = Lab()
    lab.host.dns_server({})
    lab.tcp(DNS, syn(53))
    answer = lab.one()
    assert answer.tcp is not None
    assert answer.tcp.flags == SYN | ACK


def test_restricted() -> None:
    lab = Lab(UserOptions(restrict=True))
    with lab.host.tcp_listen("127.0.0.1", 80) as local, lab.host.tcp_listen(SERVER, 80) as server:
        lab.host.dns_server({})
        for destination, port in ((GATEWAY, 80), (SERVER, 80), (DNS, 53)):
            lab.tcp(destination, syn(port))
            is_reset(lab, syn(port))
        assert not local._waiting
        assert not server._waiting
    assert lab.counters["restricted"] == 3


@pytest.mark.parametrize("flags", [ACK, FIN | ACK, PSH | ACK, SYN | ACK, FIN, 0])
def test_a_segment_of_no_connection_is_reset(flags: int) -> None:
    lab = Lab()
    lab.tcp(SERVER, Tcp(4000, 80, 5, 6, flags, 100))
    seen = lab.one().tcp
    assert seen is not None
    assert seen.flags & RST
    assert lab.counters["tcp-unknown"] == 1


def test_a_reset_of_no_connection_is_not_answered() -> None:
    lab = Lab()
    lab.tcp(SERVER, Tcp(4000, 80, 5, 6, RST, 100))
    assert lab.take() == []


def test_the_guest_gives_up_while_the_host_connects() -> None:
    lab = Lab()
    lab.host.blackhole("203.0.113.0/24")
    lab.tcp(FAR, syn())
    lab.run()
    lab.tcp(FAR, Tcp(4000, 80, ISS + 1, 0, RST, 0))
    assert lab.take() == []
    assert lab.network.flows() == ()


def test_a_repeated_syn_does_not_connect_twice() -> None:
    lab = Lab()
    with lab.host.tcp_listen(SERVER, 80) as listener:
        lab.tcp(SERVER, syn())
        lab.tcp(SERVER, syn())
        lab.run()
        assert len(listener._waiting) == 1
    assert {seen.tcp.flags for seen in lab.take() if seen.tcp} == {SYN | ACK}


def test_half_open_connections_are_bounded() -> None:
    lab = Lab()
    lab.host.blackhole("203.0.113.0/24")
    for port in range(1, 500):
        lab.tcp(FAR, syn(port))
    lab.run()
    flows = lab.network.flows()
    assert len(flows) == 128
    assert [flow.remote for flow in flows] == [Endpoint(FAR, port) for port in range(372, 500)]
    assert lab.counters["tcp-half-open-evicted"] == 499 - 128
    assert sum(isinstance(stream, SimStream) for stream in lab.host.tcp_ports) == 128  # the host's sockets went with them


def test_the_table_is_bounded_and_only_time_wait_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netemu.user.tcp._FLOWS", 1024)
    lab = Lab()
    lab.arp(ArpOperation.REQUEST, GATEWAY)
    lab.take()
    servers: list[StreamSocket] = []
    lab.host.tcp_listen(SERVER, 80).serve(servers.append)
    for port in range(1, 1027):
        lab.tcp(SERVER, syn(source_port=port))
        for seen in lab.take():
            assert seen.tcp is not None
            lab.tcp(SERVER, Tcp(port, 80, ISS + 1, seen.tcp.sequence + 1, ACK, 65_535))
            last = seen.tcp.sequence + 2
    lab.run()
    assert len(lab.network.flows()) == 1024
    assert lab.counters["tcp-table-full"] == 2
    servers[1023].close()
    lab.run()
    lab.tcp(SERVER, Tcp(1024, 80, ISS + 1, last, ACK | FIN, 65_535))
    lab.take()
    assert [flow.guest.port for flow in lab.network.flows() if flow.state == "TIME-WAIT"] == [1024]
    lab.tcp(SERVER, syn(source_port=2000))
    assert lab.one().tcp is not None
    assert len(lab.network.flows()) == 1024
    assert {flow.guest.port for flow in lab.network.flows()} == {*range(1, 1024), 2000}


def test_a_host_without_descriptors_is_a_reset() -> None:
    lab = Lab()

    def open_stream(remote: Endpoint, local: Endpoint | None = None) -> SimStream:
        raise HostError(errno.EMFILE, f"connect to {remote}")

    lab.host.open_stream = open_stream  # type: ignore[method-assign] # a host in trouble
    lab.tcp(SERVER, syn())
    is_reset(lab, syn())
    assert [(refusal.errno, refusal.destination) for refusal in lab.user.refusals] == [(errno.EMFILE, SERVER)]
    assert lab.counters["tcp-host-failed"] == 1


def test_an_error_about_no_connection_is_ignored() -> None:
    lab = Lab()
    ours = IPv4(SERVER, GUEST, Protocol.TCP, Tcp(80, 4000, 1, 0, SYN, 0).pack(SERVER, GUEST))
    lab.ip(lab.packet(SERVER, Protocol.ICMP, Icmpv4.unreachable(3, ours.pack()).pack()))
    assert lab.take() == []
    assert lab.counters["icmp-ignored"] == 1


def test_a_guest_that_vanished_is_noticed() -> None:
    talk = Conversation(Lab())
    talk.lab.run(7200 + 10 * 75 + 1)
    assert talk.lab.network.flows() == ()
    assert talk.server.socket.error == errno.ECONNRESET


def test_closing_resets_the_hosts_connections() -> None:
    talk = Conversation(Lab())
    talk.lab.user.close()
    talk.lab.run()
    assert talk.server.socket.error == errno.ECONNRESET
    assert talk.lab.network.flows() == ()
    assert talk.lab.network.deadline() is None


def test_a_closed_connections_ports_serve_again() -> None:
    talk = Conversation(Lab())
    talk.server.close()
    talk.hear()
    talk.say(ACK | FIN)
    talk.lab.take()
    assert talk.lab.network.flows()[0].state == "TIME-WAIT"
    talk.lab.tcp(SERVER, Tcp(4000, 80, talk.sent + 100_000, 0, SYN, 65_535))
    answers = [seen.tcp for seen in talk.lab.take() if seen.tcp]
    assert [answer.flags for answer in answers] == [SYN | ACK]
    assert answers[0].acknowledgment == talk.sent + 100_001


def test_the_quoted_syn_is_whole() -> None:
    lab = Lab()
    lab.host.unreachable("203.0.113.0/24")
    packet = lab.tcp(FAR, syn())
    error = lab.one().icmp
    assert error is not None
    assert IPv4.parse(error.payload) == packet
