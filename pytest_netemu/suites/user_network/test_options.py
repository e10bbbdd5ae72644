"""The options of QEMU's `-netdev user`, seen from the guest's end of the cable."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from netemu.errors import NetemuTimeoutError
from netemu.network import Network
from netemu.wire.address import MacAddress
from netemu.wire.dhcpv4 import DhcpMessageType, DhcpOption, Dhcpv4
from netemu.wire.icmpv4 import IcmpType, Icmpv4
from netemu.wire.tcp import ACK, SYN
from netemu.wire.udp import Udp
from pytest_netemu.factories import BackendFactory
from pytest_netemu.suites import judges
from pytest_netemu.tester import Tester
from pytest_netemu.tester_tcp import TcpPeer

pytestmark = pytest.mark.netemu_requires("arp", "dhcp4.server")

_POOL = 16  # leases


@pytest.fixture
def make(netemu: Network, netemu_backend_factory: BackendFactory) -> _Make:
    """A tester on a network of the cell's kind with options of its own."""
    return _Make(netemu, netemu_backend_factory)


class _Make:
    def __init__(self, network: Network, factory: BackendFactory) -> None:
        self._network, self._factory = network, factory

    def __call__(self, **options: str) -> Tester:
        return Tester(self._network, self._factory(**options))


@judges("qemu/net/01")
@pytest.mark.parametrize("net", ["172.20.0.0/16", "192.168.76.0/24"])
def test_net(make: _Make, net: str) -> None:
    tester = make(net=net)
    ack = tester.lease()
    assert ack.yiaddr in IPv4Network(net)
    assert ack.addresses(DhcpOption.SUBNET_MASK) == (IPv4Network(net).netmask,)


@judges("qemu/host/01")
@pytest.mark.netemu_requires("icmp.echo")
def test_host(make: _Make) -> None:
    tester = make(host="10.0.2.99")
    assert tester.lease().addresses(DhcpOption.ROUTER) == (IPv4Address("10.0.2.99"),)
    tester.send_icmp(Icmpv4.echo_request(1, 1, b"ping"), IPv4Address("10.0.2.99"))
    tester.expect(Icmpv4, type=IcmpType.ECHO_REPLY)


@judges("qemu/dns/01")
def test_dns(make: _Make) -> None:
    tester = make(dns="10.0.2.53")
    assert tester.lease().addresses(DhcpOption.DOMAIN_NAME_SERVER) == (IPv4Address("10.0.2.53"),)


@judges("qemu/dhcpstart/01")
def test_dhcpstart(make: _Make) -> None:
    """Sixteen addresses from there on, and no seventeenth."""
    tester = make(dhcpstart="10.0.2.40")
    macs = [MacAddress(bytes((0x52, 0x54, 0, 0x7E, 0x59, number))) for number in range(_POOL + 1)]
    leased = {tester.lease(mac=mac).yiaddr for mac in macs[:_POOL]}
    wanted = {IPv4Address("10.0.2.40") + number for number in range(_POOL)}
    assert leased == wanted, f"{_POOL} clients were leased {sorted(map(str, leased))}"
    tester.send_dhcp(DhcpMessageType.DISCOVER, mac=macs[_POOL])
    tester.silence(Dhcpv4, lambda message: message.message_type == DhcpMessageType.OFFER)


@judges("qemu/hostname/01")
def test_hostname(make: _Make) -> None:
    assert make(hostname="sparrow").lease().options.get(DhcpOption.HOST_NAME) == b"sparrow"


@judges("qemu/domainname/01")
def test_domainname(make: _Make) -> None:
    assert make(domainname="example.org").lease().options.get(DhcpOption.DOMAIN_NAME) == b"example.org"


@judges("qemu/restrict/01")
@pytest.mark.netemu_requires("restrict", "nat.tcp", "nat.udp")
def test_restrict(make: _Make) -> None:
    """Nothing of the guest's reaches a server on the host that it could reach otherwise."""
    tester = make(restrict="on")
    tester.lease()
    host = tester.backend.host
    with host.tcp_listen("127.0.0.1") as listener, host.udp("127.0.0.1") as socket:
        peer = TcpPeer(tester, listener.port)
        peer.send(flags=SYN)
        peer.silence(flags=SYN | ACK)
        tester.send_udp(b"let me out", socket.port)
        with pytest.raises(NetemuTimeoutError):
            socket.recv(timeout=1)


@judges("qemu/restrict/02")
@pytest.mark.netemu_requires("restrict", "hostfwd.tcp", "hostfwd.udp")
def test_restrict_keeps_forwards(make: _Make) -> None:
    tester = make(restrict="on", hostfwd="tcp:127.0.0.1:0-:80")
    udp = tester.backend.add_hostfwd("udp:127.0.0.1:0-:53")
    host, tcp = tester.backend.host, tester.backend.forwards[0]
    stream = host.tcp_connect(tcp.host.address, tcp.host.port)
    TcpPeer.accept(tester, 80).send(b"welcome")
    assert stream.recv(7) == b"welcome"
    with host.udp("127.0.0.1") as socket:
        socket.send_to(b"question", udp.host.address, udp.host.port)
        question = tester.expect(Udp, destination_port=53)[Udp]
        tester.send_udp(b"answer", question.source_port, source_port=53)
        assert socket.recv().data == b"answer"
