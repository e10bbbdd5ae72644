"""What `test_guest_rootless` runs as a user without privileges: namespaces, their hosts, and guests in them."""

import errno
import os
import socket
import subprocess

import pytest

from netemu import HostError, LocalError, Network
from netemu.guest.netns import NetnsGuest
from netemu.io.namespace import Namespace, probe_namespace
from netemu.io.oshost import NetnsHost


@pytest.fixture
def network():
    with Network(clock="real") as network:
        yield network


@pytest.fixture
def namespace():
    with Namespace("test") as namespace:
        yield namespace


def here() -> str:
    return os.readlink("/proc/self/ns/net")


def test_we_have_no_privilege():
    assert os.geteuid() != 0
    with pytest.raises(PermissionError):
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()
    assert probe_namespace() == (True, "private network namespaces can be made, in user namespaces")
    assert NetnsGuest.probe() is None


def test_calls_and_programs_are_inside(namespace):
    assert namespace.rootless
    inside = namespace.call(os.readlink, "/proc/self/ns/net")
    assert inside == os.readlink(f"/proc/self/fd/{namespace.fd}") != here()
    started = namespace.start(subprocess.Popen, ["readlink", "/proc/self/ns/net"], stdout=subprocess.PIPE, text=True)
    assert (started.communicate()[0].strip(), started.returncode) == (inside, 0)


def test_sockets_come_out_and_stay_where_they_were_made(namespace):
    with namespace.call(socket.create_server, ("127.0.0.1", 80)) as server, pytest.raises(ConnectionRefusedError):
        socket.create_connection(server.getsockname())
    with namespace.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 53))  # a port that wants a privilege, which its owner has inside


def test_errors_come_out(namespace):
    with pytest.raises(HostError, match=r"^add route 203\.0\.113\.0/24 unicast in namespace 'test': E\w+ \([\w ]+\)$"):
        namespace.add_route("203.0.113.0/24", via="198.51.100.2")
    with pytest.raises(LocalError, match="no interface 'eth9'"):
        namespace.add_address("192.0.2.1/32", "eth9")
    with pytest.raises(FileNotFoundError):
        namespace.call(os.readlink, "/nowhere")
    with pytest.raises(LocalError, match="is to run in another process, in a user namespace, and cannot be sent"):
        namespace.call(lambda: 1)


def test_the_process_that_is_gone_is_an_error(namespace):
    namespace.call(os.getpid)
    os.kill(namespace.call(os.getpid), 9)
    with pytest.raises(HostError, match="has ended"):
        namespace.call(os.getpid)


def test_pings_are_for_our_group(namespace):
    namespace.set_ping_group_range(1, 0)
    with pytest.raises(PermissionError):
        namespace.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
    namespace.set_ping_group_range(0, 2**31 - 1)
    namespace.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP).close()
    with pytest.raises(HostError, match="write '1 0'"):
        namespace.set_ping_group_range(1, 0)


def test_a_host_is_behind_a_user_network(namespace):
    with Network(clock="real", host=lambda loop: NetnsHost(loop, namespace)) as network:
        host = network.host
        assert isinstance(host, NetnsHost)
        host.unreachable("203.0.113.0/24")
        host.dns_server({"name.test": "192.0.2.9"})
        guest = network.guest(netdev=network.netdev("user,guestfwd=tcp:10.0.2.100:7-cmd:cat"))
        guest.dhcp4()
        with host.tcp_listen("192.0.2.1", 80) as listener:
            stream = guest.tcp_connect("192.0.2.1", 80)
            stream.send(b"up")
            assert listener.accept().recv_exactly(2) == b"up"
        with pytest.raises(HostError) as refused:
            guest.tcp_connect("203.0.113.1", 80)
        assert refused.value.errno == errno.ENETUNREACH
        assert [str(address) for address in guest.resolve("name.test")] == ["192.0.2.9"]
        assert namespace.call(socket.gethostbyname, "name.test") == "192.0.2.9"
        echo = guest.tcp_connect("10.0.2.100", 7)
        echo.send(b"to a program inside")
        assert echo.recv_exactly(19) == b"to a program inside"


def test_a_guest_lives_in_one(network):
    guest = network.guest("netns", netdev=network.netdev("user"))
    assert str(guest.dhcp4().address) == "10.0.2.15"
    assert guest.ping("10.0.2.2").ok
    with network.host.tcp_listen("127.0.0.1", 8000) as listener:
        stream = guest.tcp_connect("10.0.2.2", 8000)
        stream.send(b"x" * 100_000)
        assert listener.accept().recv_exactly(100_000) == b"x" * 100_000
    done = guest.run("id -u; cat /etc/resolv.conf")
    assert (done.status, done.output) == (0, "0\nnameserver 10.0.2.3\n")


def test_nothing_is_left_behind(network):
    guest = network.guest("netns", netdev=network.netdev("user"))
    guest.run("sleep 600 &")
    inside = os.readlink(f"/proc/self/fd/{guest.namespace.fd}")
    network.close()
    left = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                left.append(os.readlink(f"/proc/{entry}/ns/net"))
            except OSError:  # somebody else's, or it has ended
                continue
    assert inside not in left
