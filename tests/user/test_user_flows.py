"""What a user network tells of its flows: addresses on both sides, queues, counts, times; and QEMU's `info usernet` of it."""

from ipaddress import IPv4Address

from user_driver import DNS, GUEST, SERVER, Lab

from netemu.guest.protocol import Guest
from netemu.net.clock import SECOND
from netemu.netdev.user import UserNetdev
from netemu.network import Network
from netemu.user.flow import Flow
from netemu.user.forward import Forward
from netemu.user.options import UserOptions
from netemu.user.usernet import info_usernet
from netemu.wire.address import Endpoint

SHARE = "198.51.100.7"

# QEMU 7.2.22: -netdev user,id=n0,hostfwd=tcp:127.0.0.1:36323-:22,hostfwd=udp:0.0.0.0:50087-10.0.2.20:53, its descriptors as -1.
QEMU = """\
Hub -1 (n0):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[HOST_FORWARD]  -1       127.0.0.1 36323       10.0.2.15    22     0     0
  UDP[HOST_FORWARD]  -1               * 50087       10.0.2.20    53     0     0
"""


def test_forwards_are_shown_as_qemu_shows_them() -> None:
    forwards = [
        Forward("tcp", Endpoint(IPv4Address("127.0.0.1"), 36323), Endpoint(GUEST, 22)),
        Forward("udp", Endpoint(IPv4Address("0.0.0.0"), 50087), Endpoint(IPv4Address("10.0.2.20"), 53)),
    ]
    assert info_usernet("n0", forwards, [], 0) == QEMU


def test_flows_are_shown_with_bsd_states_and_seconds() -> None:
    guest, server = Endpoint(GUEST, 4000), Endpoint(SERVER, 80)
    times = {"opened": 0, "used": 0, "expires": 300 * SECOND}
    flows = [
        Flow(protocol="tcp", state="FIN-WAIT-1", guest=guest, remote=server, sent=1, received=2, guest_queue=7, **times),
        Flow(protocol="tcp", state="CONNECTING", guest=guest, remote=server, sent=0, received=0, host_queue=12, **times),
        Flow(protocol="udp", state="active", guest=guest, remote=None, sent=0, received=0, **times),
        Flow(protocol="icmp", state="active", guest=guest, remote=None, sent=0, received=0, **times),
    ]
    _, _, *lines = info_usernet("n0", [], flows, 100 * SECOND + 1).splitlines()
    assert lines == [
        "  TCP[FIN_WAIT_1]    -1       10.0.2.15  4000    198.51.100.7    80     0     7",
        "  TCP[SYN_RCVD]      -1       10.0.2.15  4000    198.51.100.7    80    12     0",
        "  UDP[199 sec]       -1       10.0.2.15  4000               *     0     0     0",
        "  ICMP[199 sec]      -1       10.0.2.15  -                  *  -        0     0",
    ]


def guest_of(network: Network, user: UserNetdev) -> Guest:
    guest = network.guest(netdev=user)
    guest.dhcp4()
    return guest


def test_a_connection_in_full() -> None:
    with Network() as network:
        network.host.add_address(SHARE)  # type: ignore[attr-defined] # a SimHost
        user = network.netdev()
        assert isinstance(user, UserNetdev)
        guest = guest_of(network, user)
        with network.host.tcp_listen(SHARE, 80) as listener, guest.tcp_connect(SHARE, 80) as client:
            server = listener.accept()
            began = network.loop.now()
            network.run_for(5)
            client.send(b"abc")
            server.send(b"hello")
            network.run_for(2)
            (flow,) = user.flows()
            assert (flow.guest, flow.remote) == (client.local, server.local)
            assert (flow.local, flow.peer) == (server.remote, server.local)
            assert (flow.sent, flow.received) == (3, 5)
            assert (flow.host_queue, flow.guest_queue) == (3, 0)  # the server has not read it
            assert flow.age(began) == 0
            now = network.loop.now()
            assert flow.age(now) == 7 * SECOND
            assert 1 * SECOND < flow.idle(now) <= 2 * SECOND
            assert flow.expires is None


def test_what_the_guest_does_not_acknowledge_waits_for_it() -> None:
    with Network() as network:
        network.host.add_address(SHARE)  # type: ignore[attr-defined] # a SimHost
        user = network.netdev()
        assert isinstance(user, UserNetdev)
        guest = guest_of(network, user)
        with network.host.tcp_listen(SHARE, 80) as listener, guest.tcp_connect(SHARE, 80):
            server = listener.accept()
            network.links[0].set_link(False)
            server.send(b"hello")
            network.run_for(1)
            (flow,) = user.flows()
            assert (flow.received, flow.guest_queue) == (0, 5)


def test_a_mapping_and_a_ping_session_count_datagrams_and_say_when_they_end() -> None:
    lab = Lab()
    with lab.host.udp(SERVER, 7) as server:
        lab.udp(SERVER, 7, b"one")
        lab.udp(SERVER, 7, b"three")
        lab.echo(SERVER)
        lab.run(1)
        source = server.recv().source
        server.send_to(b"four", str(source.address), source.port)
        lab.run(1)
        udp, icmp = lab.network.flows()
    assert (udp.datagrams_sent, udp.datagrams_received, udp.sent, udp.received) == (2, 1, 8, 4)
    assert udp.local is not None
    assert (udp.local.port, udp.opened, udp.used) == (source.port, 0, 1 * SECOND)
    assert udp.expires == 301 * SECOND
    assert (icmp.datagrams_sent, icmp.datagrams_received, icmp.expires) == (1, 1, 60 * SECOND)


def test_a_question_waits_for_its_answer() -> None:
    lab = Lab(nameserver="198.51.100.53")
    lab.host.blackhole("198.51.100.53/32")
    lab.udp(DNS, 53, bytes.fromhex("0001010000010000000000000161000001 0001".replace(" ", "")))
    lab.run()
    (flow,) = lab.network.flows()
    assert (flow.protocol, flow.datagrams_sent, flow.expires) == ("dns", 1, 4 * SECOND)
    assert flow.peer == Endpoint(IPv4Address("198.51.100.53"), 53)


def test_a_peer_of_a_forwarded_port() -> None:
    lab = Lab(UserOptions(hostfwd=("udp:127.0.0.1:0-:53",)))
    (forward,) = lab.network.forwards
    with lab.host.udp("127.0.0.1") as client:
        client.send_to(b"question", "127.0.0.1", forward.host.port)
        lab.run()
        (flow,) = lab.network.flows()
        assert (flow.state, flow.local, flow.peer) == ("forward", forward.host, client.local)
        assert (flow.received, flow.datagrams_received) == (8, 1)
