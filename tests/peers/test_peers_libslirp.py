"""libslirp in virtual time: a library that nobody here wrote, driven by our loop and used by our guest."""

import errno
import os

import pytest

from netemu import HostError, LocalError, Network, PeerError
from netemu.net.faults import Fault
from netemu.peers import libslirp_abi as abi
from netemu.peers.libslirp import LibslirpBackend
from netemu.user.options import UserOptions

pytestmark = pytest.mark.usefixtures("libslirp_here")

# Offsets measured with a C compiler against libslirp.h on x86-64.
OFFSETS = {
    "version": 0, "restricted": 4, "in_enabled": 8, "vnetwork": 12, "vnetmask": 16, "vhost": 20, "in6_enabled": 24,
    "vprefix_addr6": 28, "vprefix_len": 44, "vhost6": 48, "vhostname": 64, "tftp_server_name": 72, "tftp_path": 80,
    "bootfile": 88, "vdhcp_start": 96, "vnameserver": 100, "vnameserver6": 104, "vdnssearch": 120, "vdomainname": 128,
    "if_mtu": 136, "if_mru": 144, "disable_host_loopback": 152, "enable_emu": 153, "outbound_addr": 160,
    "outbound_addr6": 168, "disable_dns": 176, "disable_dhcp": 177,
}  # fmt: skip


@pytest.fixture
def network():
    with Network() as network:
        yield network


def backend(network: Network, **options: object) -> LibslirpBackend:
    made = LibslirpBackend(network.loop, "slirp0", UserOptions(**options))
    network.add_backend(made)
    return made


def test_the_configuration_has_the_layout_of_the_header() -> None:
    assert {name: getattr(abi.SlirpConfig, name).offset for name in OFFSETS} == OFFSETS


@pytest.mark.parametrize(("version", "config"), [("4.1.0", 1), ("4.6.1", 1), ("4.7.0", 4), ("4.9.5", 4)])
def test_the_configuration_version_is_one_the_library_knows(version: str, config: int) -> None:
    assert abi.config_version(version) == config


def test_a_guest_lives_on_it(network: Network) -> None:
    slirp = backend(network)
    guest = network.guest(netdev=slirp)
    lease = guest.dhcp4()
    assert str(lease.address) == "10.0.2.15"
    assert lease.lease_time == 86_400
    assert guest.ping("10.0.2.2").ok

    slirp.host.dns_server({"db.test": "192.0.2.9"})
    assert [str(address) for address in guest.resolve("db.test")] == ["192.0.2.9"]

    listener = slirp.host.tcp_listen("192.0.2.1", 7)
    stream = guest.tcp_connect("192.0.2.1", 7)
    served = listener.accept()
    stream.send(b"up" * 50_000)
    stream.shutdown()
    assert served.recv_all() == b"up" * 50_000
    served.send(b"down" * 50_000)
    served.close()
    assert stream.recv_all() == b"down" * 50_000

    with pytest.raises(HostError) as refused:
        guest.tcp_connect("192.0.2.1", 9)
    assert refused.value.errno == errno.ECONNREFUSED


def test_forwards_tell_their_real_port_and_go_away(network: Network) -> None:
    slirp = backend(network, hostfwd=("tcp:127.0.0.1:0-:80",))
    guest = network.guest(netdev=slirp)
    guest.dhcp4()
    (forward,) = slirp.forwards
    assert forward.host.port != 0
    listener = guest.tcp_listen(80)
    outside = slirp.host.tcp_connect("127.0.0.1", forward.host.port)
    inside = listener.accept()
    outside.send(b"hello")
    assert inside.recv() == b"hello"

    slirp.remove_hostfwd(forward)
    assert slirp.forwards == ()
    with pytest.raises(HostError):
        slirp.host.tcp_connect("127.0.0.1", forward.host.port)
    with pytest.raises(LocalError, match="not forwarded here"):
        slirp.remove_hostfwd(forward)


def test_a_port_in_use_is_a_host_error(network: Network) -> None:
    slirp = backend(network)
    taken = slirp.host.tcp_listen("127.0.0.1", 0)
    with pytest.raises(HostError):
        slirp.add_hostfwd(f"tcp:127.0.0.1:{taken.port}-:80")


def test_retransmissions_happen_in_virtual_time(network: Network) -> None:
    """A SYN nobody answers is repeated after 6 and 12 virtual seconds and costs no real ones."""
    slirp = backend(network, hostfwd=("tcp:127.0.0.1:0-:80",))
    guest = network.guest(netdev=slirp)
    guest.dhcp4()
    guest.tcp_listen(80)
    link = network.links[0]
    link.set_faults(backward=[Fault(number, "drop") for number in range(2)])
    before = network.loop.now()
    slirp.host.tcp_connect("127.0.0.1", slirp.forwards[0].host.port)
    network.run_for(30)
    syns = [record for record in network.frames.records if record.source == "slirp0" and record.time >= before]
    assert len(syns) >= 3
    assert 5e9 < syns[1].time - syns[0].time < 7e9


def test_a_crash_is_told_with_the_frame_that_caused_it(network: Network) -> None:
    slirp = backend(network)
    guest = network.guest(netdev=slirp)
    slirp._process.kill()
    with pytest.raises(PeerError, match=r"libslirp [\d.]+ died with SIGKILL after a frame of \d+ octets: ffffffffffff"):
        guest.dhcp4()


def test_nothing_is_left_behind() -> None:
    with Network() as warm:
        backend(warm)
    before = len(os.listdir("/proc/self/fd"))
    with Network() as network:
        slirp = backend(network, hostfwd=("tcp:127.0.0.1:0-:80", "udp:127.0.0.1:0-:53"))
        network.guest(netdev=slirp).dhcp4()
    assert len(os.listdir("/proc/self/fd")) == before
