"""A user network is saved and loaded into another one: what moves, what is lost, and that nothing else is loaded (virtual time)."""

from __future__ import annotations

import errno
from hashlib import sha256
from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.errors import LocalError
from netemu.guest.inproc import InprocGuest
from netemu.io.simhost import SimHost
from netemu.net.clock import SECOND
from netemu.net.faults import Fault
from netemu.net.sockets import Stream
from netemu.netdev.user import UserNetdev
from netemu.network import Network
from netemu.user.snapshot import Restored
from netemu.user.state import MAGIC, VERSION, unpack
from netemu.wire.address import Endpoint

SERVER = "198.51.100.7"
DATA = bytes(range(251)) * 1500


class Site:
    """A network with one guest, whose user netdev can be replaced by another one while everything else lives on."""

    def __init__(self, options: str = "user", *, moves_streams: bool = True) -> None:
        self.network = Network(host=lambda loop: SimHost(loop, moves_streams=moves_streams))
        assert isinstance(self.network.host, SimHost)
        self.host = self.network.host
        self.host.add_address(SERVER)
        self.options = options
        self.user = self._netdev()
        guest = self.network.guest(netdev=self.user)
        assert isinstance(guest, InprocGuest)
        self.guest = guest

    def _netdev(self) -> UserNetdev:
        user = self.network.netdev(self.options)
        assert isinstance(user, UserNetdev)
        return user

    def lose(self, forward: list[int], backward: list[int]) -> None:
        """The guest's frames with these numbers, and those for it, are lost."""
        schedules = ([Fault(number, "drop") for number in sorted(set(numbers))] for numbers in (forward, backward))
        self.network.links[-1].set_faults(*schedules)

    def unplug(self) -> bytes:
        """Save the netdev and take it away."""
        state = self.user.save_state()
        self.user.close()
        self.network.backends.remove(self.user)
        self.guest.port.disconnect()
        return state

    def plug(self, state: bytes) -> Restored:
        """Another netdev in its place."""
        self.user = self._netdev()
        with self.network.loop:
            self.network.link(self.guest.port, self.user.port)
            return self.user.load_state(state)

    def move(self, pause: float = 0.0) -> Restored:
        state = self.unplug()
        self.network.run_for(pause)
        return self.plug(state)


class Transfer:
    """`DATA` both ways over one connection, at the pace of the network."""

    def __init__(self, site: Site, client: Stream, server: Stream) -> None:
        self.site = site
        self.ends = (client, server)
        self.left = {id(end): memoryview(DATA) for end in self.ends}
        self.got = {id(end): bytearray() for end in self.ends}
        for end in self.ends:
            end.socket.on_change = self.turn
        self.turn()

    def turn(self) -> None:
        for end in self.ends:
            left, got, socket = self.left[id(end)], self.got[id(end)], end.socket
            self.left[id(end)] = left[socket.offer(left) :] if left else left
            count = socket.available()
            buffer = bytearray(count)
            socket.read_into(0, memoryview(buffer))
            socket.discard(count)
            got += buffer

    @property
    def received(self) -> int:
        return min(map(len, self.got.values()))

    def run(self, octets: int) -> None:
        self.site.network.run_until(lambda: self.received >= octets, timeout=600, what=f"{octets} octets both ways")


@pytest.fixture
def site():
    site = Site()
    site.guest.dhcp4()
    yield site
    site.network.close()


def test_leases_neighbours_and_times_move(site: Site) -> None:
    site.network.run_for(3600)
    (before,) = site.user.leases
    left = before.expires - site.network.loop.now()
    site.network.run_for(0)
    restored = site.move(pause=100)
    assert restored == Restored((), ())
    (after,) = site.user.leases
    assert (after.address, after.client, after.mac, after.state) == (before.address, before.client, before.mac, "bound")
    assert after.expires - site.network.loop.now() == left  # no time passes between saving and loading
    with site.host.tcp_listen(SERVER, 80) as listener, site.guest.tcp_connect(SERVER, 80):
        listener.accept()
    questions = [each for each in site.network.frames if each.frame[12:14] == b"\x08\x06" and each.frame[:6] == b"\xff" * 6]
    assert not [each for each in questions if each.frame[6:12] == site.user.network.mac]  # it knew where the guest is


def test_ipv6_leases_move(site: Site) -> None:
    site.guest.dhcp6()
    (before,) = site.user.leases6
    site.move()
    (after,) = site.user.leases6
    assert (after.address, after.client) == (before.address, before.client)
    assert site.guest.ping("fec0::2").ok


@pytest.mark.parametrize("moment", [1_000, 123_457, 300_000])
def test_a_stream_goes_on_without_a_lost_or_repeated_octet(site: Site, moment: int) -> None:
    with site.host.tcp_listen(SERVER, 80) as listener, site.guest.tcp_connect(SERVER, 80) as client:
        server = listener.accept()
        transfer = Transfer(site, client, server)
        transfer.run(moment)
        restored = site.move(pause=0.3)
        assert [flow.state for flow in restored.moved] == ["ESTABLISHED"]
        assert restored.lost == ()
        transfer.run(len(DATA))
        assert all(got == DATA for got in transfer.got.values())
        (flow,) = (flow for flow in site.user.flows() if flow.protocol == "tcp")
        assert (flow.sent, flow.received) == (len(DATA), len(DATA))


@settings(max_examples=50, deadline=None)
@given(
    moment=st.integers(1, 300_000),
    lost=st.lists(st.integers(0, 60), max_size=12),
    lost_back=st.lists(st.integers(0, 60), max_size=12),
    pause=st.sampled_from([0.0, 0.01, 3.0]),
)
def test_with_losses_on_both_sides_of_the_move(moment: int, lost: list[int], lost_back: list[int], pause: float) -> None:
    site = Site()
    with site.network:
        site.guest.dhcp4()
        with site.host.tcp_listen(SERVER, 80) as listener, site.guest.tcp_connect(SERVER, 80) as client:
            transfer = Transfer(site, client, listener.accept())
            site.lose(lost, lost_back)
            transfer.run(moment)
            restored = site.move(pause)
            assert restored.lost == ()
            site.lose(lost_back, lost)
            transfer.run(len(DATA))
            assert all(got == DATA for got in transfer.got.values())


def test_moved_again_and_again(site: Site) -> None:
    with site.host.tcp_listen(SERVER, 80) as listener, site.guest.tcp_connect(SERVER, 80) as client:
        transfer = Transfer(site, client, listener.accept())
        for step in range(1, 9):
            transfer.run(step * 40_000)
            assert site.move().lost == ()
        transfer.run(len(DATA))
        assert all(got == DATA for got in transfer.got.values())


@pytest.mark.parametrize("first", ["client", "server"])
def test_half_closes_move(site: Site, first: str) -> None:
    with site.host.tcp_listen(SERVER, 80) as listener, site.guest.tcp_connect(SERVER, 80) as client:
        server = listener.accept()
        closer, other = (client, server) if first == "client" else (server, client)
        closer.send(b"last words")
        closer.shutdown()
        site.network.run_for(1)
        restored = site.move()
        assert [flow.state for flow in restored.moved] == ["CLOSE-WAIT" if first == "client" else "FIN-WAIT-2"]
        assert other.recv_all() == b"last words"
        other.send(b"still here")
        other.close()
        assert closer.recv_all() == b"still here"
    site.network.run_for(200)
    assert site.user.flows() == ()


def test_a_peer_that_went_away_meanwhile(site: Site) -> None:
    with site.host.tcp_listen(SERVER, 80) as listener, site.guest.tcp_connect(SERVER, 80) as client:
        server = listener.accept()
        state = site.unplug()
        server.abort()
        site.plug(state)
        site.network.run_for(1)
        assert client.socket.error == errno.ECONNRESET


def test_the_old_network_says_nothing_any_more(site: Site) -> None:
    with site.host.tcp_listen(SERVER, 80) as listener, site.guest.tcp_connect(SERVER, 80) as client:
        server = listener.accept()
        site.network.run_for(1)
        state = site.user.save_state()
        client.send(b"into the void")
        site.network.run_for(5)
        assert (client.socket.error, server.socket.error, server.socket.available()) == (0, 0, 0)
        assert site.user.counters["at-rest"] > 0
        with pytest.raises(LocalError, match="at rest"):
            site.user.save_state()
        site.guest.port.disconnect()
        site.plug(state)
        assert server.recv_exactly(13) == b"into the void"


def test_without_the_capability_a_connection_is_reset_on_both_sides() -> None:
    site = Site(moves_streams=False)
    with site.network:
        site.guest.dhcp4()
        with site.host.tcp_listen(SERVER, 80) as listener, site.guest.tcp_connect(SERVER, 80) as client:
            server = listener.accept()
            site.network.run_for(1)
            restored = site.move()
            (lost,) = restored.lost
            assert (lost.protocol, lost.guest, lost.remote) == ("tcp", client.local, server.local)
            assert "EPERM" in lost.reason
            assert restored.moved == ()
            site.network.run_for(1)
            assert (client.socket.error, server.socket.error) == (errno.ECONNRESET, errno.ECONNRESET)


def test_a_handshake_is_lost_and_reset(site: Site) -> None:
    site.host.blackhole("203.0.113.0/24")
    socket = site.guest.stack.tcp.connect(Endpoint(IPv4Address("203.0.113.9"), 80), site.network.loop.now())
    site.network.run_for(1)
    (lost,) = site.move().lost
    assert "handshake" in lost.reason
    site.network.run_for(1)
    assert socket.error == errno.ECONNREFUSED


def test_forwarded_connections_and_ports_move() -> None:
    site = Site("user,hostfwd=tcp:127.0.0.1:0-:80,hostfwd=udp:127.0.0.1:0-:53")
    with site.network:
        site.guest.dhcp4()
        added = site.user.add_hostfwd("tcp:127.0.0.1:2222-:22")
        before = site.user.forwards
        with site.guest.tcp_listen(80) as listener, site.host.tcp_connect("127.0.0.1", before[0].host.port) as client:
            transfer = Transfer(site, client, listener.accept())
            transfer.run(100_000)
            restored = site.move()
            assert site.user.forwards == before
            assert added in before
            assert restored.lost == ()
            transfer.run(len(DATA))
            assert all(got == DATA for got in transfer.got.values())
            with site.host.tcp_connect("127.0.0.1", before[0].host.port) as another:
                listener.accept().send(b"welcome")
                assert another.recv_exactly(7) == b"welcome"


def test_a_port_that_is_taken_meanwhile_is_lost_and_named() -> None:
    site = Site("user,hostfwd=tcp:127.0.0.1:0-:80")
    with site.network:
        (forward,) = site.user.forwards
        state = site.unplug()
        with site.host.tcp_listen("127.0.0.1", forward.host.port):
            (lost,) = site.plug(state).lost
        assert (lost.protocol, lost.guest, lost.remote) == ("hostfwd", forward.guest, forward.host)
        assert "EADDRINUSE" in lost.reason
        assert site.user.forwards == ()


def test_mappings_peers_and_pings_move() -> None:
    site = Site("user,hostfwd=udp:127.0.0.1:0-:53")
    with site.network:
        site.guest.dhcp4()
        with site.host.udp(SERVER, 7) as server, site.guest.udp(5000) as socket, site.guest.udp(53) as answerer:
            socket.send_to(b"question", SERVER, 7)
            source = server.recv().source
            with site.host.udp("127.0.0.1") as client:
                client.send_to(b"who", "127.0.0.1", site.user.forwards[0].host.port)
                visible = answerer.recv().source
                assert site.guest.ping(SERVER).ok
                site.network.run_for(10)
                before = site.user.flows()
                restored = site.move()
                assert restored.lost == ()
                assert [(flow.protocol, flow.guest, flow.sent, flow.local) for flow in restored.moved] == [
                    (flow.protocol, flow.guest, flow.sent, flow.local) for flow in before
                ]
                assert [flow.used for flow in restored.moved] == [flow.used for flow in before]  # no time passed
                server.send_to(b"answer", str(source.address), source.port)
                assert socket.recv().data == b"answer"
                answerer.send_to(b"me", str(visible.address), visible.port)
                assert client.recv().data == b"me"


# What is not loaded


@pytest.fixture(scope="module")
def saved() -> bytes:
    """A state with something of every kind in it."""
    site = Site("user,hostfwd=udp:127.0.0.1:0-:53")
    with site.network:
        site.guest.dhcp4()
        site.guest.dhcp6()
        site.guest.ping(SERVER)
        with site.host.udp(SERVER, 7), site.guest.udp() as socket, site.host.udp("127.0.0.1") as client, site.guest.udp(53):
            socket.send_to(b"x", SERVER, 7)
            client.send_to(b"who", "127.0.0.1", site.user.forwards[0].host.port)
            with site.host.tcp_listen(SERVER, 80) as listener, site.guest.tcp_connect(SERVER, 80):
                site.network.run_for(0.1)
                site.network.links[-1].set_link(False)
                listener.accept().send(b"not acknowledged")
                site.network.run_for(0.1)
                return site.user.save_state()


def refuses(state: bytes) -> str:
    """A fresh network refuses `state` in one sentence, and is as it was."""
    site = Site("user,hostfwd=udp:127.0.0.1:0-:53")
    with site.network:
        before = site.user.forwards
        with pytest.raises(LocalError) as caught:
            site.user.load_state(state)
        assert (site.user.leases, site.user.flows(), site.user.forwards) == ((), (), before)
        site.guest.dhcp4()
        return str(caught.value)


def test_something_of_every_kind_is_in_it(saved: bytes) -> None:
    snapshot = unpack(saved)
    assert snapshot.leases
    assert snapshot.leases6
    assert snapshot.neighbours
    assert snapshot.neighbours6
    assert snapshot.forwards
    assert snapshot.peers
    assert snapshot.mappings
    assert snapshot.sessions
    (connection,) = snapshot.connections
    assert connection.stream.received == b"not acknowledged"
    assert connection.connection.send.outstanding == 16
    assert saved.startswith(MAGIC + VERSION.to_bytes(4, "big"))


def test_every_octet_counts(saved: bytes) -> None:
    for index in range(len(saved)):
        for flip in (1, 0x80):
            damaged = bytearray(saved)
            damaged[index] ^= flip
            with pytest.raises(LocalError):
                unpack(bytes(damaged))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_cut_off_damaged_or_longer_states_change_nothing(saved: bytes, data: st.DataObject) -> None:
    end = data.draw(st.integers(0, len(saved) - 1))
    flipped = bytearray(saved)
    flipped[end] ^= data.draw(st.integers(1, 255))
    bad = data.draw(st.sampled_from([saved[:end], bytes(flipped), saved + b"\0", saved + saved]))
    assert "\n" not in refuses(bad)


def sealed(saved: bytes, old: bytes, new: bytes) -> bytes:
    """The state with a part of its text replaced, and a digest that is right."""
    assert saved.count(old) >= 1
    head, text = saved[:12], saved[20 : 20 + int.from_bytes(saved[12:16], "big")]
    heap = saved[20 + len(text) : -32]
    text = text.replace(old, new, 1)
    octets = head + len(text).to_bytes(4, "big") + len(heap).to_bytes(4, "big") + text + heap
    return octets + sha256(octets).digest()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b'["mtu","1500"]', b'["mtu","1400"]', "mtu=1400"),
        (b'["mtu","1500"],', b"", "mtu=None"),
        (b'[["10.0.2.15"', b'[["10.0.3.15"', "a lease"),
        (b'[["10.0.2.15"', b'[["10.0.2.015"', "Leading zeros"),
        (b'"bound"', b'"stolen"', "stolen"),
        (b'"52:54:00:12:34:56"', b'"52:54:00:12:34"', "MAC address"),
        (b'"ESTABLISHED"', b'"LISTEN"', "contradict"),
        (b'"ESTABLISHED"', b'"FIN-WAIT-1"', "contradict"),
        (b'"bound"', b'"bound" ', "another way"),
        (b"null", b"1.5", "no whole number"),
        (b"null", b"[" * 3000, "not what save_state"),
        (b"false", b"0", "neither true nor false"),
        (b",80]", b",80000]", "no port"),
        (b'[["10.0.2.15"', b"[[true", "no text"),
    ],
)
def test_a_state_that_was_made_up_is_refused(saved: bytes, old: bytes, new: bytes, words: str) -> None:
    assert words in refuses(sealed(saved, old, new))


def test_another_version_is_named(saved: bytes) -> None:
    assert "version 2: this netemu reads version 1" in refuses(saved[:11] + b"\x02" + saved[12:])


def test_a_network_that_has_served_takes_no_state(saved: bytes, site: Site) -> None:
    with pytest.raises(LocalError, match="fresh network"):
        site.user.load_state(saved)
    assert site.guest.ping("10.0.2.2").ok


def test_other_options_are_named(saved: bytes) -> None:
    site = Site("user,hostname=other")
    with site.network, pytest.raises(LocalError, match="hostname=None, this one has other"):
        site.user.load_state(saved)


def test_a_lease_lives_on_for_what_is_left_of_it(saved: bytes) -> None:
    (lease,) = unpack(saved).leases
    assert 86_000 * SECOND < lease.remaining <= 86_400 * SECOND
