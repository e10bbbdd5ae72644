"""A real Linux on the IPv6 side of the user-mode network: it makes its own address, and reaches and is reached as on any network.

The guest is this machine's kernel in a namespace of its own, and the host is in memory: no packet leaves this process but over the
guest's TAP.
"""

from collections.abc import Iterator

import pytest

from netemu.guest.netns import NetnsGuest
from netemu.io.oshost import OsHost
from netemu.io.simhost import SimHost
from netemu.netdev.user import UserNetdev
from netemu.network import Network

ANSWERED = 30.0  # seconds; a limit for a crowded machine, never waited for
SERVER = "2001:db8::7"
SLAAC = "fec0::5054:ff:fe12:3456"  # from QEMU's first MAC address (RFC 4291 2.5.1)


class Site:
    """One guest for all checks of this module, for it takes Linux some seconds to find duplicates of its addresses."""

    def __init__(self, network: Network) -> None:
        self.network = network
        assert isinstance(network.host, SimHost)
        self.host = network.host
        self.host.add_address(SERVER)
        user = network.netdev(f"user,hostfwd=tcp:[::1]:0-[{SLAAC}]:80,hostfwd=tcp:127.0.0.1:0-[{SLAAC}]:80")
        assert isinstance(user, UserNetdev)
        self.user = user
        guest = network.guest("netns", netdev=user)
        assert isinstance(guest, NetnsGuest)
        self.guest = guest
        self.inside = OsHost(network.loop, name="inside", place=guest.namespace)  # its sockets
        self.wait_for_address()

    def wait_for_address(self) -> None:
        for _ in range(100):
            self.network.run_for(0.3)
            addresses = self.guest.run("ip -6 addr show dev eth0", timeout=ANSWERED).output
            if f"{SLAAC}/64" in addresses and "tentative" not in addresses:
                return
        raise AssertionError(addresses)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    reason = NetnsGuest.probe()
    if reason is not None:
        pytest.skip(reason)
    with Network(clock="real") as network:
        site = Site(network)
        yield site
        site.inside.close()


def test_slaac_a_default_route_and_the_gateway_answers(site: Site) -> None:
    routes = site.guest.run("ip -6 route", timeout=ANSWERED).output
    assert "default via fe80::2 dev eth0" in routes
    assert "fec0::/64 dev eth0" in routes
    for address in ("fec0::2", "fec0::3", "fe80::2%eth0", SERVER):
        reply = site.guest.run(f"busybox ping -6 -c 2 -s 3000 {address}", timeout=ANSWERED)
        assert (reply.status, "2 packets received" in reply.output) == (0, True), reply.output


def test_tcp_and_udp_outwards(site: Site) -> None:
    data = bytes(range(256)) * 150
    with site.host.tcp_listen(SERVER, 80) as listener, site.inside.tcp_connect(SERVER, 80, timeout=ANSWERED) as stream:
        served = listener.accept(ANSWERED)
        stream.send(data)
        assert served.recv_exactly(len(data), ANSWERED) == data
        served.send(data)
        assert stream.recv_exactly(len(data), ANSWERED) == data
    with site.host.udp(SERVER, 9) as server, site.inside.udp("::") as client:
        client.send_to(data[:5000], SERVER, 9)
        question = server.recv(ANSWERED)
        assert question.data == data[:5000]
        server.send_to(data[:4000], question.source.address, question.source.port)
        answer = client.recv(ANSWERED)
        assert (answer.data, str(answer.source)) == (data[:4000], f"[{SERVER}]:9")


def test_a_closed_port_and_a_network_that_is_not_there(site: Site) -> None:
    refused = site.guest.run(f"busybox nc -w 5 {SERVER} 81 </dev/null", timeout=ANSWERED)
    assert refused.status != 0
    assert "refused" in refused.output
    nowhere = site.guest.run("busybox nc -w 5 2001:db8:9::1 81 </dev/null", timeout=ANSWERED)
    assert "unreachable" in nowhere.output, nowhere.output


@pytest.mark.parametrize("which", [0, 1], ids=["from IPv6", "from IPv4"])
def test_connections_inwards(site: Site, which: int) -> None:
    forward = site.user.forwards[which].host
    with site.inside.tcp_listen("::", 80) as listener, site.host.tcp_connect(*forward, timeout=ANSWERED) as client:
        served = listener.accept(ANSWERED)
        assert str(served.remote.address) == "fec0::2"
        client.send(b"hello")
        assert served.recv_exactly(5, ANSWERED) == b"hello"
        served.send(b"welcome")
        assert client.recv_exactly(7, ANSWERED) == b"welcome"


def test_names_over_ipv6(site: Site) -> None:
    site.host.dns_server({"www.example.org": "192.0.2.80"})
    answer = site.guest.run("busybox nslookup www.example.org fec0::3", timeout=ANSWERED)
    assert "192.0.2.80" in answer.output, answer.output
