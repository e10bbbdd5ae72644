"""IPv6 on every kind of host: in memory, on ::1 of this machine, and inside a private namespace."""

from __future__ import annotations

import errno
import socket
import struct
from ipaddress import IPv6Address, ip_address

import pytest

from netemu.errors import HostError, LocalError
from netemu.io.oshost import NetnsHost, OsHost
from netemu.io.simhost import SimHost
from netemu.net.clock import SECOND
from netemu.net.loop import VirtualLoop
from netemu.net.sockets import endpoint
from netemu.wire.checksum import internet_checksum, pseudo_header_sum
from netemu.wire.dns import DnsMessage, Question, RecordType
from netemu.wire.icmpv6 import Icmpv6Type, Icmpv6UnreachableCode

SERVER = "2001:db8::7"
GENEROUS = 20 * SECOND
ZONE = {"both.test": ["198.51.100.7", SERVER], "new.test": SERVER, "old.test": "198.51.100.7"}


@pytest.fixture
def sim():
    host = SimHost(VirtualLoop())
    host.add_address(SERVER)
    yield host
    host.close()


@pytest.fixture
def inside(loop, namespace):
    host = NetnsHost(loop, namespace, addresses=("192.0.2.1", "2001:db8::1", SERVER))
    yield host
    host.close()


@pytest.fixture(params=["sim", "netns", "os"])
def anywhere(request):
    """A host of each kind, and an address of it."""
    if request.param == "sim":
        yield request.getfixturevalue("sim"), SERVER
        return
    if request.param == "os":
        host, address = OsHost(VirtualLoop()), "::1"
    else:
        loop, namespace = request.getfixturevalue("real_loop"), request.getfixturevalue("namespace")
        host, address = NetnsHost(loop, namespace, addresses=(SERVER,)), SERVER
    yield host, address
    host.close()


class Heard:
    """The callbacks of a datagram or ping socket, in the order in which they came."""

    def __init__(self, socket):
        self.events = []
        for name in ("on_datagram", "on_reply", "on_error"):
            if hasattr(socket, name):
                setattr(socket, name, lambda *event, name=name: self.events.append((name, *event)))


def refused(call):
    with pytest.raises(HostError) as caught:
        call()
    return caught.value.errno


def until(loop, condition):
    assert loop.run_until(condition, loop.now() + GENEROUS)


def test_streams(anywhere):
    host, address = anywhere
    with host.tcp_listen(address) as listener, host.tcp_connect(address, listener.port) as client, listener.accept() as server:
        client.send(b"question")
        assert server.recv_exactly(8) == b"question"
        assert (server.remote, server.local) == (client.local, client.remote)
        assert client.remote == endpoint(address, listener.port)
        port = listener.port
    assert refused(lambda: host.tcp_connect(address, port)) == errno.ECONNREFUSED


def test_datagrams_carry_their_hop_limit(anywhere):
    host, address = anywhere
    with host.udp(address) as server, host.udp("::") as client:
        client.send_to(b"question", address, server.port, ttl=9)
        data, source = server.recv()
        assert data == b"question"
        assert server.socket.last_ttl == 9
        server.send_to(b"answer", source.address, source.port)
        assert client.recv() == (b"answer", server.local)


def test_a_closed_port_is_reported_with_its_destination(anywhere):
    host, address = anywhere
    with host.udp(address) as client, host.udp(address) as gone:
        closed = gone.local
        gone.close()
        with host.loop:
            heard = Heard(client.socket)
            client.socket.send_to(b"x", closed)
        until(host.loop, lambda: heard.events)
        assert heard.events == [("on_error", errno.ECONNREFUSED, closed)]


def test_the_families_do_not_share_a_port(anywhere):
    host, address = anywhere
    with (
        host.tcp_listen("::") as six,
        host.tcp_listen("0.0.0.0", six.port),
        host.udp("::") as other,
        host.udp("0.0.0.0", other.port),
    ):
        assert refused(lambda: host.tcp_listen("::", six.port)) == errno.EADDRINUSE
        with host.tcp_connect(address, six.port):
            assert six.accept().local == endpoint(address, six.port)


def test_a_socket_of_one_family_does_not_send_to_the_other(anywhere):
    host, address = anywhere
    with host.udp("0.0.0.0") as client:
        assert refused(lambda: client.send_to(b"x", address, 9)) == errno.EAFNOSUPPORT


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_the_echo_server(anywhere, protocol):
    host, address = anywhere
    server = host.echo_server(address, protocol=protocol)
    if protocol == "tcp":
        with host.tcp_connect(address, server.local.port) as client:
            client.send(b"hello")
            assert client.recv_exactly(5) == b"hello"
    else:
        with host.udp("::") as client:
            client.send_to(b"hello", address, server.local.port)
            assert client.recv() == (b"hello", server.local)


@pytest.mark.parametrize(
    ("name", "kind", "addresses"),
    [
        ("both.test", RecordType.A, ["198.51.100.7"]),
        ("both.test", RecordType.AAAA, [SERVER]),
        ("both.test", RecordType.ANY, ["198.51.100.7", SERVER]),
        ("new.test", RecordType.AAAA, [SERVER]),
        ("new.test", RecordType.A, []),
        ("old.test", RecordType.AAAA, []),
    ],
)
def test_names_have_addresses_of_both_families(sim, name, kind, addresses):
    server = sim.dns_server(ZONE, SERVER)
    assert sim.nameservers() == [endpoint(SERVER, 53)]
    with sim.udp("::") as client:
        client.send_to(DnsMessage(1, (Question(name, kind),)).pack(), server.local.address, 53)
        reply = DnsMessage.parse(client.recv().data)
    assert [record.address for record in reply.answers] == [ip_address(text) for text in addresses]


# In memory


def test_loopback_and_the_own_address_are_there(sim):
    with sim.tcp_listen("::", 80) as listener:
        for destination, source in (("::1", "::1"), (SERVER, "2001:db8::254"), ("2001:db8::254", "2001:db8::254")):
            with sim.tcp_connect(destination, 80) as client:
                assert client.local.address == IPv6Address(source)
                assert listener.accept().local == endpoint(destination, 80)
    assert refused(lambda: sim.tcp_connect("2001:db8:f::1", 80)) == errno.ENETUNREACH


def test_pings_meet_routers_and_silence(sim):
    sim.add_address("2001:db8:1::7", path=("2001:db8::1",))
    sim.unreachable("2001:db8:2::/48", errno.EHOSTUNREACH, reporter="2001:db8::1")
    sim.unreachable("2001:db8:3::/48", reporter="2001:db8::1")
    sim.blackhole("2001:db8:4::/48")
    ping = sim.open_ping(6)
    heard = Heard(ping)
    for sequence, (destination, ttl) in enumerate(
        [("2001:db8:1::7", 64), ("2001:db8:1::7", 1), ("2001:db8:2::1", 64), ("2001:db8:3::1", 64), ("2001:db8:4::1", 64)]
    ):
        ping.send_echo(IPv6Address(destination), sequence, b"payload", ttl)
    sim.loop.run_for(SECOND)
    router = IPv6Address("2001:db8::1")
    assert heard.events == [
        ("on_reply", 0, b"payload", IPv6Address("2001:db8:1::7")),
        ("on_error", Icmpv6Type.TIME_EXCEEDED, 0, router, 1),
        ("on_error", Icmpv6Type.DESTINATION_UNREACHABLE, Icmpv6UnreachableCode.ADDRESS, router, 2),
        ("on_error", Icmpv6Type.DESTINATION_UNREACHABLE, Icmpv6UnreachableCode.NO_ROUTE, router, 3),
    ]
    assert refused(lambda: ping.send_echo(ip_address("192.0.2.254"), 9, b"")) == errno.EAFNOSUPPORT


@pytest.mark.parametrize(
    "misuse",
    [
        lambda host: host.add_address("2001:db8:1::7", path=("192.0.2.1",)),
        lambda host: host.add_address("198.51.100.7", path=("2001:db8::1",)),
        lambda host: host.unreachable("2001:db8:1::/48", reporter="192.0.2.1"),
        lambda host: SimHost(host.loop, address="::1"),
        lambda host: SimHost(host.loop, address6="192.0.2.1"),
    ],
)
def test_families_are_not_mixed(sim, misuse):
    with pytest.raises(LocalError, match=r"an IPv[46] address is needed here"):
        misuse(sim)


# In a namespace


def test_errors_as_configured(inside):
    inside.unreachable("2001:db8:1::/48", errno.EHOSTUNREACH)
    inside.unreachable("2001:db8:2::/48", errno.ENETUNREACH)
    inside.blackhole("2001:db8:3::/48")
    for address, expected in [
        (SERVER, errno.ECONNREFUSED),
        ("2001:db8:1::1", errno.EHOSTUNREACH),
        ("2001:db8:2::1", errno.ENETUNREACH),
        ("2001:db8:f::1", errno.ENETUNREACH),
    ]:
        assert refused(lambda address=address: inside.tcp_connect(address, 9)) == expected
    with pytest.raises(TimeoutError):
        inside.tcp_connect("2001:db8:3::1", 9, timeout=0.05)


def test_ping(inside, loop):
    inside.set_ping_group_range(0, 0)
    with loop:
        ping = inside.open_ping(6)
        heard = Heard(ping)
        ping.send_echo(IPv6Address(SERVER), 513, b"payload", ttl=9)
    until(loop, lambda: heard.events)
    assert heard.events == [("on_reply", 513, b"payload", IPv6Address(SERVER))]
    with loop:
        assert refused(lambda: ping.send_echo(IPv6Address("2001:db8:f::1"), 1, b"")) == errno.ENETUNREACH
    inside.set_ping_group_range(1, 0)
    with loop:
        assert refused(lambda: inside.open_ping(6)) == errno.EACCES


def test_icmpv6_errors_come_with_type_code_and_sender(inside, loop):
    """A raw socket answers with an error of a router's, as the network would."""
    inside.blackhole("2001:db8:3::/48")
    inside.set_ping_group_range(0, 0)
    source, lost, router = (IPv6Address(text) for text in ("2001:db8::1", "2001:db8:3::9", SERVER))
    raw = inside.namespace.call(socket.socket, socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with raw, loop:
        ping, datagram = inside.open_ping(6), inside.open_datagram(endpoint(source, 0))
        heard, heard_datagram = Heard(ping), Heard(datagram)
        ping.send_echo(lost, 77, b"payload")
        identifier = ping._socket.getsockname()[1]
        for protocol, quoted in [
            (58, struct.pack("!BBHHH", 128, 0, 0, identifier, 77) + b"payload"),
            (17, struct.pack("!HHHH", datagram.local.port, 9, 8, 0)),
        ]:
            error = struct.pack("!BBHI", 1, 3, 0, 0) + ipv6_header(source, lost, protocol, len(quoted)) + quoted
            checksum = internet_checksum(error, pseudo_header_sum(router, source, 58, len(error)))
            error = error[:2] + checksum.to_bytes(2, "big") + error[4:]
            raw.sendto(ipv6_header(router, source, 58, len(error)) + error, (str(source), 0))
        until(loop, lambda: heard.events and heard_datagram.events)
    assert heard.events == [("on_error", 1, 3, router, 77)]
    assert heard_datagram.events == [("on_error", errno.EHOSTUNREACH, endpoint(lost, 9))]


def ipv6_header(source, destination, next_header, length):
    return struct.pack("!IHBB", 6 << 28, length, next_header, 64) + source.packed + destination.packed


def test_routes_and_addresses(namespace):
    namespace.add_bridge("br0")
    namespace.add_address("2001:db8:5::1/64", "br0")
    namespace.add_route("::/0", kind="unreachable")
    with namespace.call(socket.create_server, ("2001:db8:5::1", 0), family=socket.AF_INET6):  # no wait for its detection
        pass
    with pytest.raises(LocalError, match="2001:db8:1::/48"):
        namespace.add_route("2001:db8::1/32")
