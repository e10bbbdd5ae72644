"""What is switched off, and where guests' traffic leaves the host."""

import errno
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from user_driver import DNS, GATEWAY, SERVER, Lab, unreachable
from user_driver6 import SERVER as SERVER6
from user_driver6 import Lab6

from netemu.user.options import UserOptions
from netemu.wire import tftp
from netemu.wire.arp import ArpOperation
from netemu.wire.dhcpv4 import DhcpOption
from netemu.wire.icmpv4 import UnreachableCode
from netemu.wire.tcp import RST, SYN, Tcp

OUTBOUND = IPv4Address("192.0.2.99")


def syn(port: int) -> Tcp:
    return Tcp(1025, port, 1000, 0, flags=SYN, window=1000)


def test_the_gateway_need_not_be_the_hosts_loopback() -> None:
    lab = Lab(UserOptions(disable_host_loopback=True))
    with lab.host.tcp_listen("127.0.0.1", 80), lab.host.udp("127.0.0.1", 7), lab.host.tcp_listen(SERVER, 80) as beyond:
        lab.tcp(GATEWAY, syn(80))
        reset = lab.one().tcp
        assert reset is not None
        assert reset.flags & RST
        packet = lab.udp(GATEWAY, 7, b"hello")
        unreachable(lab.one(), UnreachableCode.PORT, packet, GATEWAY)
        lab.echo(GATEWAY)
        assert lab.one().icmp is not None
        lab.tcp(SERVER, syn(80))
        lab.run(0.1)
        assert beyond.accept().remote.address == lab.host.address


def test_there_need_not_be_a_dns_server() -> None:
    lab = Lab(UserOptions(disable_dns=True), nameserver=str(SERVER))
    assert DhcpOption.DOMAIN_NAME_SERVER not in lab.lease().options
    lab.arp(ArpOperation.REQUEST, DNS)
    assert lab.take() == []
    packet = lab.udp(DNS, 53, bytes(12))
    unreachable(lab.one(), UnreachableCode.HOST, packet, GATEWAY)


def test_guests_leave_by_the_outbound_address() -> None:
    lab = Lab(UserOptions(outbound_addr=OUTBOUND))
    lab.host.add_address(OUTBOUND)
    with (
        lab.host.tcp_listen(SERVER, 80) as listener,
        lab.host.udp(SERVER, 7) as datagrams,
        lab.host.tcp_listen("127.0.0.1", 81) as own,
    ):
        lab.tcp(SERVER, syn(80))
        lab.udp(SERVER, 7, b"hello", source_port=5000)
        lab.run(0.1)
        assert listener.accept().remote.address == OUTBOUND
        source = datagrams.recv().source
        assert (source.address, source.port) == (OUTBOUND, 5000)
        lab.tcp(GATEWAY, syn(81))
        lab.run(0.1)
        assert own.accept().remote.address == IPv4Address("127.0.0.1")


def test_pings_and_ipv6_leave_by_the_outbound_address() -> None:
    addresses = (OUTBOUND, IPv6Address("2001:db8::fe"))
    lab = Lab6(UserOptions(outbound_addr=addresses[0], outbound_addr6=addresses[1]))
    lab.echo(SERVER6)
    assert lab.one().icmp is not None
    assert lab.network.refusals[-1].errno == errno.EADDRNOTAVAIL
    lab.host.add_address(addresses[1])
    sources = []
    open_ping = lab.host.open_ping
    lab.host.open_ping = lambda *asked: sources.append(asked) or open_ping(*asked)  # type: ignore[func-returns-value,method-assign] # a spy
    lab.echo(SERVER6)
    assert lab.one().icmp is not None
    assert sources == [(6, addresses[1])]
    with lab.host.tcp_listen(SERVER6, 80) as listener, lab.host.udp(SERVER6, 7) as datagrams:
        lab.tcp(SERVER6, syn(80))
        lab.udp(SERVER6, 7, b"hello")
        lab.run(0.1)
        assert listener.accept().remote.address == addresses[1]
        assert datagrams.recv().source.address == addresses[1]


def test_an_outbound_address_that_is_not_the_hosts_refuses() -> None:
    lab = Lab(UserOptions(outbound_addr=OUTBOUND))
    lab.udp(SERVER, 7, b"hello")
    assert lab.one().icmp is not None
    assert lab.network.refusals[-1].errno == errno.EADDRNOTAVAIL


def read_file(lab: Lab, name: str) -> tuple[tftp.Packet, int]:
    """The first answer to a request, and the port from which it came."""
    lab.udp(GATEWAY, 69, tftp.Request(tftp.Opcode.RRQ, name).pack(), source_port=2000)
    seen = lab.one()
    assert seen.udp is not None
    assert seen.ip is not None
    assert (seen.ip.source, seen.udp.destination_port) == (GATEWAY, 2000)
    return tftp.parse(seen.udp.payload), seen.udp.source_port


def test_the_gateway_serves_files(tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "secret").write_bytes(b"outside")
    (tmp_path / "served" / "boot").write_bytes(b"kernel")
    lab = Lab(UserOptions(tftp=str(tmp_path / "served"), restrict=True))
    packet, port = read_file(lab, "boot")
    assert packet == tftp.Data(1, b"kernel")
    (flow,) = lab.user.flows()
    assert (flow.state, flow.received) == ("tftp", 6)
    lab.udp(GATEWAY, port, tftp.Acknowledgment(1).pack(), source_port=2000)
    assert lab.take() == []
    assert lab.user.flows() == ()
    error, _ = read_file(lab, "../secret")
    assert isinstance(error, tftp.Error)
    assert error.code == tftp.ErrorCode.ACCESS_VIOLATION
    lab.user.close()


def test_what_was_lost_comes_again_in_virtual_time(tmp_path: Path) -> None:
    (tmp_path / "boot").write_bytes(b"kernel")
    lab = Lab(UserOptions(tftp=str(tmp_path)))
    assert read_file(lab, "boot")[0] == tftp.Data(1, b"kernel")
    (again,) = lab.take(1.5)
    assert again.udp is not None
    assert tftp.parse(again.udp.payload) == tftp.Data(1, b"kernel")
    lab.udp(GATEWAY, 69, b"\0\1no end", source_port=2000)
    lab.run()
    assert lab.counters["malformed-tftp"] == 1
    lab.user.close()


def test_without_a_directory_port_69_is_the_hosts() -> None:
    lab = Lab()
    with lab.host.udp("127.0.0.1", 69) as server:
        lab.udp(GATEWAY, 69, b"anything")
        lab.run(0.1)
        assert server.recv().data == b"anything"
