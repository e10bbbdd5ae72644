"""passt in real time: a program that nobody here wrote, in a namespace, at the other end of QEMU's stream protocol."""

from __future__ import annotations

import errno
import os

import pytest

from netemu import HostError, LocalError, Network, PeerError
from netemu.peers import passt
from netemu.peers.passt import PasstBackend
from netemu.user.options import UserOptions

NEW = "passt@trixie-backports"


@pytest.fixture(params=["passt", NEW])
def peer(request):
    """Each of the versions that suites know and that are here."""
    reason = passt.probe(request.param)
    if reason:
        pytest.skip(reason)
    return request.param


@pytest.fixture
def network():
    with Network(clock="real") as network:
        yield network


def backend(network: Network, peer: str, **options: object) -> PasstBackend:
    made = PasstBackend(network.loop, "passt0", UserOptions(**options), peer)
    network.add_backend(made)
    return made


def test_a_guest_lives_on_it(network, peer):
    made = backend(network, peer)
    assert made.version.startswith("0.0~git20")
    guest = network.guest(netdev=made)
    lease = guest.dhcp4()
    assert (str(lease.address), [str(router) for router in lease.routers]) == ("10.0.2.15", ["10.0.2.2"])

    listener = made.host.tcp_listen("192.0.2.1", 7)
    stream = guest.tcp_connect("192.0.2.1", 7)
    served = listener.accept()
    stream.send(b"up" * 50_000)
    assert served.recv_exactly(100_000) == b"up" * 50_000
    served.send(b"down" * 50_000)
    assert stream.recv_exactly(200_000) == b"down" * 50_000


def test_a_guest_has_ipv6_on_it(network):
    if reason := passt.probe(NEW):
        pytest.skip(reason)
    made = backend(network, NEW, hostfwd=("tcp:[::1]:0-:80",))
    guest = network.guest(netdev=made)
    guest.slaac()
    assert str(guest.dhcp6().address) == "fec0::15"
    listener = made.host.tcp_listen("::1", 7)
    stream = guest.tcp_connect(made.gateway6, 7)
    stream.send(b"up")
    assert listener.accept().recv_exactly(2) == b"up"

    inside = guest.tcp_listen(80)
    outside = made.host.tcp_connect("::1", made.forwards[0].host.port)
    outside.send(b"in")
    assert inside.accept().recv_exactly(2) == b"in"


def test_a_forward_tells_its_real_port(network, peer):
    made = backend(network, peer, hostfwd=("tcp:127.0.0.1:0-:80",))
    guest = network.guest(netdev=made)
    guest.dhcp4()
    (forward,) = made.forwards
    assert forward.host.port != 0
    listener = guest.tcp_listen(80)
    outside = made.host.tcp_connect("127.0.0.1", forward.host.port)
    outside.send(b"hello")  # before the connection is accepted: the version of 2023 completes no handshake without data
    assert listener.accept().recv() == b"hello"


def test_names_pings_and_refusals_come_through_the_newer_one(network):
    """That of 2023 maps no pings to the gateway, takes 127.0.0.53 for 127.0.0.1, and resets without acknowledging the SYN."""
    if reason := passt.probe(NEW):
        pytest.skip(reason)
    made = backend(network, NEW)
    guest = network.guest(netdev=made)
    guest.dhcp4()
    assert guest.ping("10.0.2.2").ok
    made.host.dns_server({"db.test": "192.0.2.9"})
    assert [str(address) for address in guest.resolve("db.test")] == ["192.0.2.9"]

    with pytest.raises(HostError) as refused:
        guest.tcp_connect("192.0.2.1", 9)
    assert refused.value.errno == errno.ECONNREFUSED


def test_forwards_are_settled_when_it_starts(network, peer):
    made = backend(network, peer, hostfwd=("udp:127.0.0.1:0-:53",))
    with pytest.raises(LocalError, match="only the ports it is started with"):
        made.add_hostfwd("tcp:127.0.0.1:0-:80")
    with pytest.raises(LocalError, match="keeps the forwards"):
        made.remove_hostfwd(made.forwards[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"restrict": True, "lease_time": 60}, "nothing for restrict, lease-time: leave that out"),
        ({"hostfwd": ("tcp:127.0.0.1:0-10.0.2.16:80",)}, "its one guest, 10.0.2.15"),
        ({"hostfwd": ("unix:/nowhere/socket-:80",)}, "forwards no UNIX sockets"),
        ({"hostfwd": ("tcp:127.0.0.1:8000-8001-:80",)}, "no ranges here"),
    ],
)
def test_what_it_cannot_is_refused_with_a_sentence(network, peer, options, message):
    with pytest.raises(LocalError, match=message):
        backend(network, peer, **options)


def test_an_option_of_later_versions_is_refused_with_a_sentence(network, monkeypatch, peer):
    monkeypatch.setattr(passt, "_options", lambda _peer: frozenset({"--foreground"}))
    with pytest.raises(LocalError, match=r"has no --interface.*take a newer one"):
        backend(network, peer)


def test_a_start_that_fails_tells_what_it_said(network, peer):
    with pytest.raises(HostError, match=r"ended with status 1 and said .*[Ii]nvalid"):
        backend(network, peer, outbound_addr="0.0.0.1.2")


def test_a_crash_is_told_with_the_last_frame(network, peer):
    made = backend(network, peer)
    guest = network.guest(netdev=made)
    guest.dhcp4()
    os.kill(made._process.pid, 9)
    with pytest.raises(PeerError, match=r"ended with SIGKILL and said .*, after a frame of \d+ octets: [0-9a-f]{28}"):
        guest.ping("10.0.2.2")


def test_it_needs_a_real_clock(peer):
    with Network() as network, pytest.raises(LocalError, match='make it with clock="real"'):
        backend(network, peer)


def test_nothing_is_left_behind(peer):
    with Network(clock="real") as warm:
        backend(warm, peer)
    before = len(os.listdir("/proc/self/fd"))
    with Network(clock="real") as network:
        made = backend(network, peer, hostfwd=("tcp:127.0.0.1:0-:80", "udp:127.0.0.1:0-:53"))
        network.guest(netdev=made).dhcp4()
        pid = made._process.pid
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
