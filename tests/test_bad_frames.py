"""One valid frame of each protocol, cut at every octet and with every octet changed, to the user network and to a guest's stack.

Each damage comes twice: as it is, where the checksums catch most of it, and with the checksums made right again, so that what is
behind them meets it too. Afterwards both still answer, and what was dropped was counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Interface

import pytest

from netemu import Network
from netemu.guest.inproc import InprocGuest
from netemu.net.port import Port
from netemu.stack.dns_client import DnsQuery
from netemu.wire.address import BROADCAST_MAC, ZERO_MAC, Endpoint, MacAddress
from netemu.wire.arp import Arp, ArpOperation
from netemu.wire.checksum import internet_checksum, pseudo_header_sum
from netemu.wire.dhcpv4 import BOOTREPLY, BOOTREQUEST, DhcpMessageType, DhcpOption, Dhcpv4
from netemu.wire.dns import DnsMessage, Question, RecordType, ResourceRecord
from netemu.wire.ether import Ethernet, EtherType
from netemu.wire.icmpv4 import Icmpv4
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.tcp import ACK, PSH, SYN, Tcp, TcpOptions
from netemu.wire.udp import Udp
from netemu.wire.vlan import Vlan

GUEST, GATEWAY, DNS = IPv4Address("10.0.2.15"), IPv4Address("10.0.2.2"), IPv4Address("10.0.2.3")
SERVER = IPv4Address("198.51.100.80")
GUEST_MAC, GATEWAY_MAC = MacAddress("52:54:00:12:34:56"), MacAddress("52:55:0a:00:02:02")
TIMESTAMPS = TcpOptions(mss=1460, window_scale=7, sack_permitted=True, timestamps=(1, 0))
QUESTION = Question("www.example.org", RecordType.A)
CHECKSUM_AT = {Protocol.ICMP: 2, Protocol.UDP: 6, Protocol.TCP: 16}


def corpus(own: IPv4Address, own_mac: MacAddress, to: IPv4Address, to_mac: MacAddress) -> dict[str, bytes]:
    """What both sides may hear, from `own` to `to`."""

    def datagram(protocol: int, payload: bytes, **header: object) -> bytes:
        return IPv4(own, to, protocol, payload, **header).pack()

    ping = datagram(Protocol.ICMP, Icmpv4.echo_request(1, 2, b"payload!").pack())
    quoted = IPv4(to, own, Protocol.UDP, Udp(2000, 9, b"").pack(to, own)).pack()
    packets = {
        "icmp": ping,
        "icmp-error": datagram(Protocol.ICMP, Icmpv4.unreachable(3, quoted).pack()),
        "ipv4-options": datagram(Protocol.ICMP, Icmpv4.echo_request(1, 3, b"").pack(), options=bytes((7, 7, 4, 0, 0, 0, 0, 0))),
        "fragment": datagram(Protocol.ICMP, bytes(64), fragment_offset=64, identification=3),
        "first-fragment": datagram(Protocol.ICMP, bytes(64), more_fragments=True, identification=4),
        "udp": datagram(Protocol.UDP, Udp(5000, 2000, b"payload!").pack(own, to)),
        "tcp-syn": datagram(Protocol.TCP, Tcp(4000, 80, 1, 0, SYN, 65_535, options=TIMESTAMPS).pack(own, to)),
        "tcp-data": datagram(
            Protocol.TCP,
            Tcp(4000, 80, 2, 7, ACK | PSH, 9, b"data", options=TcpOptions(sack=((1, 9),), timestamps=(2, 1))).pack(own, to),
        ),
    }
    frames = {name: Ethernet(to_mac, own_mac, EtherType.IPV4, packet).pack() for name, packet in packets.items()}
    frames["vlan"] = Ethernet(to_mac, own_mac, EtherType.VLAN, Vlan(1, False, 5, EtherType.IPV4, ping).pack()).pack()
    frames["arp"] = Ethernet(
        BROADCAST_MAC, own_mac, EtherType.ARP, Arp(ArpOperation.REQUEST, own_mac, own, ZERO_MAC, to).pack()
    ).pack()
    return frames


def to_the_network() -> dict[str, bytes]:
    options = {DhcpOption.DHCP_MESSAGE_TYPE: bytes((DhcpMessageType.REQUEST,)), DhcpOption.REQUESTED_IP_ADDRESS: GUEST.packed}
    request = Dhcpv4(BOOTREQUEST, 7, GUEST_MAC, options=options).pack()
    anybody, everybody = IPv4Address("0.0.0.0"), IPv4Address("255.255.255.255")
    dhcp = IPv4(anybody, everybody, Protocol.UDP, Udp(68, 67, request).pack(anybody, everybody)).pack()
    dns = Udp(5000, 53, DnsMessage(1, (QUESTION,), recursion_desired=True).pack()).pack(GUEST, DNS)
    return {
        **corpus(GUEST, GUEST_MAC, SERVER, GATEWAY_MAC),
        "arp": corpus(GUEST, GUEST_MAC, GATEWAY, GATEWAY_MAC)["arp"],
        "dhcp": Ethernet(BROADCAST_MAC, GUEST_MAC, EtherType.IPV4, dhcp).pack(),
        "dns": Ethernet(GATEWAY_MAC, GUEST_MAC, EtherType.IPV4, IPv4(GUEST, DNS, Protocol.UDP, dns).pack()).pack(),
    }


def to_the_guest() -> dict[str, bytes]:
    options = {DhcpOption.DHCP_MESSAGE_TYPE: bytes((DhcpMessageType.OFFER,)), DhcpOption.SERVER_IDENTIFIER: GATEWAY.packed}
    offer = Dhcpv4(BOOTREPLY, 7, GUEST_MAC, yiaddr=GUEST, options=options).pack()
    dhcp = IPv4(GATEWAY, GUEST, Protocol.UDP, Udp(67, 68, offer).pack(GATEWAY, GUEST)).pack()
    answer = DnsMessage(7, (QUESTION,), (ResourceRecord(QUESTION.name, RecordType.A, 60, SERVER.packed),), response=True).pack()
    dns = IPv4(DNS, GUEST, Protocol.UDP, Udp(53, 5353, answer).pack(DNS, GUEST)).pack()
    return {
        **corpus(GATEWAY, GATEWAY_MAC, GUEST, GUEST_MAC),
        "dhcp": Ethernet(GUEST_MAC, GATEWAY_MAC, EtherType.IPV4, dhcp).pack(),
        "dns": Ethernet(GUEST_MAC, GATEWAY_MAC, EtherType.IPV4, dns).pack(),
    }


TO_NETWORK, TO_GUEST = to_the_network(), to_the_guest()


def repaired(frame: bytes) -> bytes:
    """The frame with the checksums right again, as far as it goes."""
    changed = bytearray(frame)
    ip = memoryview(changed)[14:]
    if len(ip) < 20 or frame[12:14] != EtherType.IPV4.to_bytes(2, "big"):
        return frame
    size = max(20, (ip[0] & 0xF) * 4)
    ip[10:12] = b"\0\0"
    ip[10:12] = internet_checksum(ip[:size]).to_bytes(2, "big")
    segment, at = ip[size:], CHECKSUM_AT.get(ip[9], 99)
    if len(segment) >= at + 2:
        segment[at : at + 2] = b"\0\0"
        source, destination = IPv4Address(bytes(ip[12:16])), IPv4Address(bytes(ip[16:20]))
        initial = 0 if ip[9] == Protocol.ICMP else pseudo_header_sum(source, destination, ip[9], len(segment))
        segment[at : at + 2] = internet_checksum(segment, initial).to_bytes(2, "big")
    return bytes(changed)


def damaged(frame: bytes) -> Iterator[bytes]:
    yield from (frame[:length] for length in range(len(frame)))
    for at in range(len(frame)):
        for mask in (0x01, 0x80, 0xFF):
            yield frame[:at] + bytes((frame[at] ^ mask,)) + frame[at + 1 :]


Mend = Callable[[bytes], bytes]
AS_IT_IS: Mend = bytes
MENDS = pytest.mark.parametrize("mend", [AS_IT_IS, repaired], ids=["as it is", "checksums right"])


def attacker(network: Network, target: Port) -> Port:
    port = Port(network.loop, "attacker", lambda frame, header: True)
    network.link(port, target)
    return port


@MENDS
@pytest.mark.parametrize("name", TO_NETWORK)
def test_the_user_network_works_on(netemu_factory, name: str, mend: Mend):
    with netemu_factory() as network:
        user = network.netdev("user,hostfwd=tcp:127.0.0.1:0-:80")
        network.host.add_address(SERVER)
        network.host.echo_server(SERVER, 80)
        port = attacker(network, user.port)
        for frame in damaged(TO_NETWORK[name]):
            port.send(mend(frame))
            network.loop.run_for(0)
        network.loop.run_for(10**9)
        assert sum(user.counters.values()) >= len(TO_NETWORK[name])  # every truncation at least
        user.port.disconnect()
        guest = network.guest(netdev=user.port)
        guest.configure(GUEST, 24, GATEWAY)
        assert guest.ping(GATEWAY).ok
        with guest.tcp_connect(SERVER, 80) as stream:
            stream.send(b"there")
            assert stream.recv_exactly(5) == b"there"


@MENDS
@pytest.mark.parametrize("name", TO_GUEST)
def test_the_guest_works_on(netemu_factory, name: str, mend: Mend):
    with netemu_factory() as network:
        guest = network.guest()
        assert isinstance(guest, InprocGuest)
        guest.stack.start_dhcp(network.loop.now())  # so that somebody reads what comes to its port
        guest.stack.configure(IPv4Interface(f"{GUEST}/24"), GATEWAY)
        port = attacker(network, guest.port)
        with guest.tcp_listen(80) as listener, guest.udp(2000), guest.udp(5353) as asking:
            listener.serve(lambda socket: None)
            for frame in damaged(TO_GUEST[name]):
                query = DnsQuery(QUESTION.name, [Endpoint(DNS, 53)], lambda bits: 7)
                query.transmit(network.loop.now())
                asking.socket.on_datagram = query.receive
                port.send(mend(frame))
                network.loop.run_for(0)
        counted = guest.stack.counters.total() + guest.stack.reassembler.counters.total()
        assert counted >= len(TO_GUEST[name])  # every truncation at least
        guest.port.disconnect()
        peer = network.guest(mac="52:54:00:00:00:99", netdev=guest.port)
        peer.configure("10.0.2.99", 24)
        assert peer.ping(GUEST).ok
