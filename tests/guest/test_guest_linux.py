"""What every guest with a real Linux kernel does on our user network, whose host is in memory: nothing leaves the process.

One guest of each kind serves all tests of this file; they run in any order.
"""

import errno
from ipaddress import IPv4Address

import pytest

from netemu.errors import HostError, LocalError, NetemuTimeoutError
from netemu.guest.protocol import CAPABILITIES, PingError
from netemu.network import Network

SERVER = "198.51.100.7"
ANSWERED = 30.0  # seconds; a limit for a crowded machine, never waited for
KINDS = {  # kind of guest, clock
    "netns": ("netns", "real"),
    "qemu": ("qemu", "real"),
    "uml": ("uml", "real"),
    "uml-virtual": ("uml", "virtual"),
}


@pytest.fixture(scope="module", params=KINDS)
def leased(request, require_guest):
    """(network, user network, guest) with a lease."""
    require_guest(request.param)
    kind, clock = KINDS[request.param]
    with Network(clock=clock) as network:
        network.host.add_address(SERVER)
        network.host.unreachable("203.0.113.0/24", errno.ENETUNREACH)
        network.host.blackhole("203.0.114.0/24")
        network.host.dns_server({"www.example.test": ["192.0.2.80", "192.0.2.81"]})
        user = network.netdev("user,hostfwd=tcp:127.0.0.1:0-:8080")
        guest = network.guest(kind, netdev=user)
        guest.dhcp4(timeout=ANSWERED)
        yield network, user, guest


def test_the_lease_is_what_the_user_network_gives(leased):
    _, user, guest = leased
    lease = guest.lease
    assert (str(lease.address), lease.prefix_length, lease.network) == ("10.0.2.15", 24, user.net)
    assert (lease.server, lease.routers, lease.dns) == (user.gateway, (user.gateway,), (user.dns,))
    assert lease.lease_time == 86400
    assert (lease.renewal_time, lease.rebinding_time) == (43200, 75600)
    assert guest.address == lease.address


def test_the_lease_is_in_use_inside(leased):
    _, _, guest = leased
    assert "10.0.2.15/24" in guest.run(f"ip addr show dev {guest.interface}", timeout=ANSWERED).output
    assert "default via 10.0.2.2" in guest.run("ip route", timeout=ANSWERED).output
    assert guest.run("cat /etc/resolv.conf", timeout=ANSWERED).output == "nameserver 10.0.2.3\n"
    assert str(guest.mac) in guest.run(f"cat /sys/class/net/{guest.interface}/address", timeout=ANSWERED).output


def test_capabilities_are_the_protocols_words(leased):
    network, _, guest = leased
    known = frozenset(CAPABILITIES) - {"frames", "virtual-clock", "ipv6", "slaac", "dhcp6", "nic"}
    own = ({"virtual-clock"} if network.clock == "virtual" else set()) | ({"nic"} if guest.kind == "qemu" else set())
    own |= {"slaac"} if guest.kind == "netns" else set()
    assert guest.capabilities == known | own


def test_ping_the_gateway(leased):
    result = leased[2].ping("10.0.2.2", count=3, size=1400, timeout=ANSWERED)
    assert (result.outcome, result.sent, result.received) == ("reply", 3, 3)
    assert all(0 < rtt < ANSWERED * 1e9 for rtt in result.rtts)


def test_ping_where_nobody_routes(leased):
    result = leased[2].ping("203.0.113.1", timeout=ANSWERED)
    assert result.errors == (PingError(3, 0, IPv4Address("10.0.2.2")),)
    assert result.outcome == "error"


def test_ping_into_silence(leased):
    assert leased[2].ping("203.0.114.1", timeout=0.3).outcome == "silence"


def test_resolve(leased):
    guest = leased[2]
    assert guest.resolve("www.example.test", timeout=ANSWERED) == [IPv4Address("192.0.2.80"), IPv4Address("192.0.2.81")]
    assert guest.resolve("nothing.example.test", server="10.0.2.3", timeout=ANSWERED) == []


def test_resolve_with_a_server_that_is_silent(leased):
    with pytest.raises(NetemuTimeoutError, match=r"resolve 'www\.example\.test': no answer"):
        leased[2].resolve("www.example.test", server="203.0.114.53", timeout=1)


def test_tcp_out_carries_both_ways_and_closes_half(leased):
    network, _, guest = leased
    with network.host.tcp_listen(SERVER, 80) as listener, guest.tcp_connect(SERVER, 80, timeout=ANSWERED) as stream:
        peer = listener.accept(ANSWERED)
        data = bytes(range(256)) * 80
        stream.send(data)
        assert peer.recv_exactly(len(data), ANSWERED) == data
        peer.send(data)
        peer.shutdown()
        assert stream.recv_all(ANSWERED) == data
        stream.send(b"still open")
        stream.shutdown()
        assert peer.recv_all(ANSWERED) == b"still open"


def test_tcp_refused(leased):
    with pytest.raises(HostError) as caught:
        leased[2].tcp_connect(SERVER, 81, timeout=ANSWERED)
    assert caught.value.errno == errno.ECONNREFUSED


def test_tcp_reset_by_the_host(leased):
    network, _, guest = leased
    with network.host.tcp_listen(SERVER, 80) as listener:
        stream = guest.tcp_connect(SERVER, 80, timeout=ANSWERED)
        listener.accept(ANSWERED).abort()
        with pytest.raises(HostError) as caught:
            stream.recv(timeout=ANSWERED)
        assert caught.value.errno == errno.ECONNRESET
        stream.close()


def test_tcp_in_through_a_forward(leased):
    network, user, guest = leased
    forward = user.forwards[0]
    with guest.tcp_listen(forward.guest.port) as listener:
        client = network.host.tcp_connect(forward.host.address, forward.host.port)
        served = listener.accept(ANSWERED)
        client.send(b"GET")
        assert served.recv_exactly(3, ANSWERED) == b"GET"
        served.send(b"200" * 1000)
        served.close()
        assert client.recv_all(ANSWERED) == b"200" * 1000
        client.close()


def test_a_port_in_use_is_refused(leased):
    guest = leased[2]
    with guest.tcp_listen(0) as listener, pytest.raises(HostError) as caught:
        guest.tcp_listen(listener.port)
    assert caught.value.errno == errno.EADDRINUSE


def test_udp_both_ways(leased):
    network, _, guest = leased
    with network.host.udp(SERVER, 5000) as server, guest.udp() as client:
        client.send_to(b"question", SERVER, 5000)
        asked = server.recv(ANSWERED)
        assert asked.data == b"question"
        server.send_to(b"answer" * 200, asked.source.address, asked.source.port)
        received = client.recv(ANSWERED)
        assert received.data == b"answer" * 200
        assert (str(received.source.address), received.source.port) == (SERVER, 5000)


def test_run(leased):
    guest = leased[2]
    result = guest.run("echo out; echo err >&2; exit 7", timeout=ANSWERED)
    assert (result.status, result.output) == (7, "out\nerr\n")
    assert "Linux" in guest.run("uname -a", timeout=ANSWERED).output


def test_a_command_that_hangs_ends_in_time(leased):
    guest = leased[2]
    with pytest.raises(NetemuTimeoutError, match=r"(?s)did not finish.*within 0.5 s.*begun"):
        guest.run("echo begun; sleep 2", timeout=0.5)
    assert guest.run("echo on", timeout=ANSWERED).output == "on\n"


def test_every_frame_was_on_the_link(leased):
    network, _, guest = leased
    guest.ping("10.0.2.2", timeout=ANSWERED)
    ends = {(record.source, record.destination) for record in network.frames.records}
    assert ends == {(guest.name, "netdev0"), ("netdev0", guest.name)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_static_address_instead(kind, require_guest):
    require_guest(kind)
    kind, clock = KINDS[kind]
    with Network(clock=clock) as network:
        guest = network.guest(kind, netdev=network.netdev("user"))
        guest.configure("10.0.2.77", 24, "10.0.2.2")
        assert str(guest.address) == "10.0.2.77"
        assert guest.ping("10.0.2.2", timeout=ANSWERED).ok
        with pytest.raises(LocalError, match="no name server is known"):
            guest.resolve("a.test")
        with pytest.raises(LocalError, match="configure guest0"):
            guest.configure("10.0.2.300", 24)


@pytest.mark.parametrize("kind", KINDS)
def test_no_server_no_lease(kind, require_guest):
    require_guest(kind)
    kind, clock = KINDS[kind]
    with Network(clock=clock) as network:
        guest = network.guest(kind, netdev=network.hub())
        with pytest.raises(NetemuTimeoutError, match=r"(?s)udhcpc got no lease within 1 s.*discover"):
            guest.dhcp4(timeout=1)
        assert guest.address is None


@pytest.mark.parametrize("kind", ["netns", "qemu"])
def test_a_kernel_cannot_live_in_virtual_time(kind, require_guest):
    require_guest(kind)
    with Network() as network, pytest.raises(LocalError, match='make the network with clock="real"'):
        network.guest(kind)
