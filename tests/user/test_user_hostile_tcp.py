"""Guests that misbehave inside a TCP connection, and texts that other networks took for protocols to rewrite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from crowd import ECHO, GATEWAY, GUEST, MAC, SERVER, Crowd
from hostile_frames import ether, tcp

from netemu.wire.arp import Arp, ArpOperation
from netemu.wire.ether import Ethernet, EtherType
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.tcp import ACK, FIN, PSH, RST, SYN, URG, Tcp

REMEMBERED = 3 * 3600.0  # seconds after which no network remembers a guest that is gone


@pytest.fixture
def crowd(tmp_path: Path) -> Iterator[Crowd]:
    with Crowd(tmp_path) as crowd:
        yield crowd


class Peer:
    """The guest's end of one connection to a server, by hand: what it says is what a test says, what it hears is in `heard`."""

    def __init__(self, crowd: Crowd, source_port: int = 4000, port: int = ECHO) -> None:
        self._crowd = crowd
        self._ports = {"source_port": source_port, "port": port, "to": SERVER}
        self.heard: list[Tcp] = []
        crowd.hear = self._hear
        self.say(SYN, sequence=99)
        self.theirs = self.heard[-1].sequence + 1

    def _hear(self, octets: bytes) -> None:
        frame = Ethernet.parse(octets)
        if frame.ethertype == EtherType.ARP and Arp.parse(frame.payload).target_ip == GUEST:
            asked = Arp.parse(frame.payload)
            reply = Arp(ArpOperation.REPLY, MAC, GUEST, asked.sender_mac, asked.sender_ip)
            self._crowd.port.send(ether(EtherType.ARP, reply.pack()))
        elif frame.ethertype == EtherType.IPV4:
            packet = IPv4.parse(frame.payload)
            if (packet.destination, packet.protocol) == (GUEST, Protocol.TCP):
                self.heard.append(Tcp.parse(packet.payload, packet.source, packet.destination))

    def say(self, flags: int, **fields: int | bytes) -> list[Tcp]:
        """A segment; what came back at once."""
        before = len(self.heard)
        self._crowd.say([tcp(flags, **{**self._ports, **fields})])  # type: ignore[arg-type] # fields of `tcp`
        return self.heard[before:]

    def ack(self, flags: int = ACK, **fields: int | bytes) -> list[Tcp]:
        return self.say(flags, **{"sequence": 100, "acknowledgment": self.theirs, **fields})


@pytest.mark.parametrize("urgent", [0, 1, 2, 3, 60_000, 65_535])
@pytest.mark.parametrize("flags", [ACK | PSH | URG, ACK | URG])
def test_an_urgent_pointer_past_the_data(crowd: Crowd, urgent: int, flags: int) -> None:
    peer = Peer(crowd)
    peer.ack()
    peer.ack(flags, data=b"ab", urgent=urgent)
    peer.ack(flags, sequence=102, urgent=urgent)  # urgent, and nothing there
    peer.ack(ACK | PSH, sequence=102, data=b"cd")
    assert b"".join(segment.payload for segment in peer.heard) == b"abcd"
    crowd.serves()


def test_a_connection_that_is_reset_before_it_is_there(crowd: Crowd) -> None:
    """CVE-2017-13711: what waits for a connection's socket when it goes."""
    for number in range(300):
        port = 5000 + number
        crowd.say([tcp(SYN, source_port=port, port=ECHO, to=SERVER), tcp(RST, source_port=port, port=ECHO, to=SERVER, sequence=2)])
    assert [flow for flow in crowd.user.flows() if flow.protocol == "tcp"] == []
    crowd.serves()


def test_a_storm_of_half_closed_connections(crowd: Crowd) -> None:
    """Guests that close and then are silent: each is remembered for a while, and then no more."""
    for number in range(300):
        peer = Peer(crowd, 5000 + number)
        peer.ack()
        peer.ack(ACK | FIN)
    assert len(crowd.user.flows()) <= 300
    crowd.serves()
    crowd.network.run_for(REMEMBERED)
    assert [flow for flow in crowd.user.flows() if flow.protocol == "tcp"] == []


def test_a_storm_of_connections_that_go_silent(crowd: Crowd) -> None:
    """Established, with data sent to a guest that never acknowledges it."""
    for number in range(300):
        peer = Peer(crowd, 5000 + number)
        peer.ack(ACK | PSH, data=b"echo this")
    crowd.serves()
    crowd.network.run_for(REMEMBERED)
    assert [flow for flow in crowd.user.flows() if flow.protocol == "tcp"] == []


@pytest.mark.parametrize("flags", [0, PSH, FIN, URG | PSH | FIN, SYN, SYN | FIN, SYN | ACK, RST, RST | ACK])
def test_segments_that_fit_no_connection_do_not_end_one(crowd: Crowd, flags: int) -> None:
    """No flags at all, no ACK, and resets and SYNs beside the window (RFC 5961)."""
    peer = Peer(crowd)
    peer.ack()
    for sequence in (0, 50, 100 + (1 << 20), 100 + (1 << 31), (1 << 32) - 1):
        answers = peer.ack(flags, sequence=sequence & 0xFFFFFFFF)
        assert len(answers) <= 1
        assert not any(answer.flags & RST for answer in answers)
    peer.ack(ACK | PSH, data=b"on")
    assert b"".join(segment.payload for segment in peer.heard) == b"on"


def test_the_gateways_closed_port(crowd: Crowd) -> None:
    crowd.heard = 0
    crowd.say(tcp(SYN, port=81, source_port=port, to=GATEWAY) for port in range(1, 200))
    assert crowd.heard <= 200  # a reset each, and who has the guest's address
    assert [flow for flow in crowd.user.flows() if flow.protocol == "tcp"] == []
    crowd.serves()


TEXTS = {
    "CVE-2019-6778 and CVE-2019-9824: ident": (
        113,
        b"6193 , 23\r\n" + b"1" * 5000 + b" , " + b"2" * 5000 + b"\r\n" + b"%s, %n\r\n",
    ),
    "CVE-2020-8608: FTP": (
        21,
        b"PORT 10,0,2,15,16,1\r\n227 Entering Passive Mode (10,0,2,15,16,1)\r\nPORT " + b"255," * 3000 + b"\r\n",
    ),
    "CVE-2020-7039: IRC": (6667, b"\1DCC CHAT chat 167772687 1024\1\r\n\1DCC SEND " + b"a" * 9000 + b" 1 2 3\1\r\n\1DCC MOVE"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_no_text_is_read_on_its_way(crowd: Crowd, name: str) -> None:
    """libslirp rewrote addresses in these protocols; what is said here arrives as it was said, also in the smallest pieces."""
    port, text = TEXTS[name]
    with crowd.guest.tcp_connect(SERVER, port) as stream:
        stream.send(text)
        assert stream.recv_exactly(len(text)) == text
        for at in range(40):
            stream.send(text[at : at + 1])
            assert stream.recv_exactly(1) == text[at : at + 1]
    assert {flow.guest.address for flow in crowd.user.flows()} <= {crowd.guest.address}
    crowd.serves()
