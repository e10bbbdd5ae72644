"""UDP of a guest: lengths, checksums, addresses, and what becomes of errors (RFC 768, RFC 1122 4.1).

That a datagram is discarded shows without waiting: one that is in order is sent behind it, and is the first that the socket has.
"""

from __future__ import annotations

import errno
from ipaddress import IPv4Address

import pytest

from netemu.errors import HostError
from netemu.net.sockets import Datagram, Received
from netemu.wire.address import Endpoint
from netemu.wire.icmpv4 import IcmpType, Icmpv4, TimeExceededCode, UnreachableCode
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.udp import Udp
from pytest_netemu.outcomes import Inconclusive
from pytest_netemu.station import LIMITED_BROADCAST
from pytest_netemu.suites import judges
from pytest_netemu.wire import Wire

pytestmark = pytest.mark.netemu_requires("udp")

_PORT = 40_010  # the station's
_LENGTH, _CHECKSUM = slice(4, 6), slice(6, 8)  # octets of a header


def _octets(wire: Wire, socket: Datagram, payload: bytes, destination: IPv4Address | None = None) -> bytearray:
    """A datagram for `socket` that is in order."""
    return bytearray(Udp(_PORT, socket.port, payload).pack(wire.address, destination or wire.opposite))


def _send(wire: Wire, octets: bytes | bytearray) -> None:
    wire.send_ip(wire.ip(wire.opposite, Protocol.UDP, bytes(octets)))


def _discards(wire: Wire, socket: Datagram, octets: bytes | bytearray) -> None:
    _send(wire, octets)
    _send(wire, _octets(wire, socket, b"in order"))
    assert socket.recv().data == b"in order"


def _sent(wire: Wire, socket: Datagram, payload: bytes) -> bytes:
    """The datagram that the guest makes of `payload`, header and all."""
    socket.send_to(payload, wire.address, _PORT)
    return wire.expect(IPv4, protocol=Protocol.UDP)[IPv4].payload


def _error(wire: Wire, message: int, code: int, word: int = 0) -> int:
    """What the guest's socket says of an ICMP error about its datagram: an errno, whose choice is the guest's."""
    with wire.guest.udp() as socket:
        socket.send_to(b"is somebody there?", wire.address, _PORT)
        about = wire.expect(IPv4, protocol=Protocol.UDP)[IPv4]
        wire.send_icmp(Icmpv4(message, code, word, about.pack()[:28]))
        with pytest.raises(HostError) as raised:
            socket.recv(timeout=5)
    assert raised.value.errno is not None
    return raised.value.errno


@judges("rfc768/fields/01")
def test_no_checksum_is_accepted(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    with wire.guest.udp() as socket:
        octets = _octets(wire, socket, b"unsummed")
        octets[_CHECKSUM] = bytes(2)
        _send(wire, octets)
        assert socket.recv().data == b"unsummed"


@judges("rfc768/fields/02")
def test_a_checksum_of_zero_is_sent_as_ones(netemu_wire: Wire) -> None:
    """The payload is the checksum of the rest, so that the sum of all comes out as zero."""
    wire = netemu_wire.up()
    with wire.guest.udp() as socket:
        blank = Udp(socket.port, _PORT, bytes(2)).pack(wire.opposite, wire.address)
        checksum = _sent(wire, socket, blank[_CHECKSUM])[_CHECKSUM]
    assert checksum == b"\xff\xff"


@judges("rfc768/fields/03")
def test_what_is_behind_the_length_is_not_data(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    with wire.guest.udp() as socket:
        _send(wire, _octets(wire, socket, b"data") + b"behind")
        data = socket.recv().data
    assert data == b"data"


@judges("rfc768/fields/03")
def test_a_datagram_longer_than_its_packet_is_discarded(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    with wire.guest.udp() as socket:
        _discards(wire, socket, _octets(wire, socket, b"cut short")[:-2])


@judges("rfc768/fields/04")
def test_an_empty_datagram_is_one(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    with wire.guest.udp() as socket:
        _send(wire, _octets(wire, socket, b""))
        assert socket.recv().data == b""
        assert len(_sent(wire, socket, b"")) == 8


@judges("rfc768/fields/04")
@pytest.mark.parametrize("length", [0, 7])
def test_a_length_below_the_least_is_discarded(netemu_wire: Wire, length: int) -> None:
    wire = netemu_wire.up()
    with wire.guest.udp() as socket:
        octets = _octets(wire, socket, b"too short")
        octets[_LENGTH], octets[_CHECKSUM] = length.to_bytes(2), bytes(2)
        _discards(wire, socket, octets)


@judges("rfc768/fields/05")
def test_the_answer_goes_to_the_port_that_asked(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    with wire.guest.udp() as socket:
        for port in (_PORT, _PORT + 1):
            wire.send_udp(b"question", socket.port, source_port=port)
            asked = socket.recv()
            socket.send_to(b"answer", asked.source.address, asked.source.port)
            answer = wire.expect(Udp, payload=b"answer")[Udp]
            assert (answer.source_port, answer.destination_port) == (socket.port, port)


@judges("rfc768/fields/06")
def test_the_checksum_covers_the_addresses(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    with wire.guest.udp() as socket:
        _discards(wire, socket, _octets(wire, socket, b"for another", wire.opposite + 1))


@judges("rfc768/fields/07")
def test_a_datagram_without_a_source_port_is_received(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    with wire.guest.udp() as socket:
        wire.send_udp(b"no answer, please", socket.port, source_port=0)
        assert socket.recv() == Received(b"no answer, please", Endpoint(wire.address, 0))


@judges("rfc768/fields/08")
def test_each_port_gets_its_own(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    with wire.guest.udp() as one, wire.guest.udp() as two:
        wire.send_udp(b"for two", two.port)
        wire.send_udp(b"for one", one.port)
        assert (one.recv().data, two.recv().data) == (b"for one", b"for two")


@judges("rfc768/fields/09")
@pytest.mark.parametrize("payload", [b"o", b"odd", bytes(1023) + b"\xff\xff"], ids=len)
def test_an_odd_length_is_padded_for_the_sum(netemu_wire: Wire, payload: bytes) -> None:
    wire = netemu_wire.up()
    with wire.guest.udp() as socket:
        _send(wire, _octets(wire, socket, payload))
        assert socket.recv().data == payload
        Udp.parse(_sent(wire, socket, payload), wire.opposite, wire.address)


@judges("rfc768/user-interface/01")
def test_the_socket_says_who_sent_it(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    senders = [Endpoint(wire.address, 7000), Endpoint(wire.address, 7001), Endpoint(IPv4Address("198.51.100.7"), 7000)]
    with wire.guest.udp() as socket:
        for number, sender in enumerate(senders):
            assert isinstance(sender.address, IPv4Address)
            wire.send_udp(bytes((number,)), socket.port, source_port=sender.port, source=sender.address)
        assert [socket.recv() for _ in senders] == [Received(bytes((at,)), sender) for at, sender in enumerate(senders)]


@judges("rfc1122/4.1.3.4/01")
def test_a_wrong_checksum_is_discarded(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    with wire.guest.udp() as socket:
        octets = _octets(wire, socket, b"damaged")
        octets[_CHECKSUM.start] ^= 0x55
        _discards(wire, socket, octets)


@judges("rfc1122/4.1.3.4/02")
def test_a_checksum_is_right(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    with wire.guest.udp() as socket:
        octets = _sent(wire, socket, b"summed")
    if octets[_CHECKSUM] == bytes(2):
        raise Inconclusive("the datagram has no checksum, which is another requirement's matter (RFC 1122 4.1.3.4)")
    Udp.parse(octets, wire.opposite, wire.address)


@judges("rfc1122/4.1.3.4/03")
def test_a_datagram_has_a_checksum(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    with wire.guest.udp() as socket:
        assert _sent(wire, socket, b"summed?")[_CHECKSUM] != bytes(2)


@judges("rfc1122/4.1.3.3/01")
def test_a_closed_port_is_the_sockets_to_know(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    assert _error(wire, IcmpType.DESTINATION_UNREACHABLE, UnreachableCode.PORT) == errno.ECONNREFUSED


@judges("rfc1122/3.2.2.1/02")
def test_an_unreachable_host_is_the_sockets_to_know(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    assert _error(wire, IcmpType.DESTINATION_UNREACHABLE, UnreachableCode.HOST)


@judges("rfc1122/3.2.2.4/01")
def test_time_exceeded_is_the_sockets_to_know(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    assert _error(wire, IcmpType.TIME_EXCEEDED, TimeExceededCode.TTL)


@judges("rfc1122/3.2.2.5/01")
def test_a_parameter_problem_is_the_sockets_to_know(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    assert _error(wire, IcmpType.PARAMETER_PROBLEM, 0, 1 << 24)


@judges("rfc1122/4.1.3.6/01")
@pytest.mark.parametrize("source", ["127.0.0.1", "255.255.255.255", "224.0.0.1"])
def test_a_datagram_from_nobody_in_particular_is_discarded(netemu_wire: Wire, source: str) -> None:
    wire = netemu_wire.up()
    with wire.guest.udp() as socket:
        wire.send_udp(b"from nobody", socket.port, source=IPv4Address(source))
        wire.send_udp(b"from the router", socket.port)
        assert socket.recv().data == b"from the router"


@judges("rfc1122/4.1.3.6/02")
def test_a_datagram_comes_from_the_guests_address(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    with wire.guest.udp() as socket:
        for destination in (wire.address, IPv4Address("198.51.100.7")):
            socket.send_to(b"from whom?", destination, _PORT)
            assert wire.expect(IPv4, destination=destination)[IPv4].source == wire.opposite


@judges("rfc1122/4.1.4/01")
@pytest.mark.parametrize("ttl", [1, 255])
def test_the_program_sets_the_time_to_live(netemu_wire: Wire, ttl: int) -> None:
    """The type of service and options, which the sentence names too, no guest's verbs can set."""
    wire = netemu_wire.up()
    with wire.guest.udp() as socket:
        socket.send_to(b"so far", wire.address, _PORT, ttl=ttl)
        assert wire.expect(IPv4, protocol=Protocol.UDP)[IPv4].ttl == ttl


@judges("rfc1122/3.2.1.3/05")
def test_the_limited_broadcast_is_received(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    with wire.guest.udp() as socket:
        wire.send_udp(b"to all", socket.port, LIMITED_BROADCAST)
        assert socket.recv().data == b"to all"


@judges("rfc1122/3.2.1.3/06")
def test_the_networks_broadcast_is_received(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    with wire.guest.udp() as socket:
        wire.send_udp(b"to all", socket.port, wire.net.broadcast_address)
        assert socket.recv().data == b"to all"
