"""Trains of datagrams between two real Linuxes, and as scapy and tshark read them: nothing but the number of calls is different.

The guest is a namespace behind a TAP, the host another one; the user network is in between, with nothing on the way that takes no
offloads.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from random import Random

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap

from netemu.io.loop import RealLoop
from netemu.io.namespace import Namespace, probe_namespace
from netemu.io.oshost import NetnsHost, OsHost
from netemu.io.tap import TapPort
from netemu.net.clock import SECOND
from netemu.net.offload import EVERYTHING, USO, lower
from netemu.net.port import Port, connect
from netemu.net.sockets import Datagram, endpoint
from netemu.netdev.user import UserNetdev
from netemu.user.options import UserOptions
from netemu.wire.vnet_hdr import GSO_UDP_L4, VnetHeader

ANSWERED = 30.0  # seconds; a limit for a crowded machine, never waited for
SERVERS = {4: "192.0.2.1", 6: "2001:db8::7"}
GUESTS = {4: "10.0.2.15", 6: "fec0::15"}
INTERFACE = "eth0"
SETUP = (
    f"address add 10.0.2.15/24 dev {INTERFACE}",
    "route add default via 10.0.2.2",
    f"address add fec0::15/64 dev {INTERFACE} nodad",
    f"route add default via fe80::2 dev {INTERFACE}",
)
UDP_SEGMENT, UDP_GRO = 103, 104  # linux/udp.h


class Site:
    """A guest, the network and its host; `frames` has what the network sent."""

    def __init__(self, stack: ExitStack) -> None:
        inside, outside = stack.enter_context(Namespace("guest")), stack.enter_context(Namespace("host"))
        self.loop = stack.enter_context(closing(RealLoop()))
        with self.loop:
            self.host = stack.enter_context(closing(NetnsHost(self.loop, outside, addresses=SERVERS.values())))
            self.user = stack.enter_context(closing(UserNetdev(self.loop, "user", UserOptions(), self.host, Random(1).getrandbits)))
            self.guest = stack.enter_context(closing(OsHost(self.loop, place=inside)))
        self.tap = stack.enter_context(closing(TapPort(self.loop, inside, INTERFACE)))
        for command in SETUP:
            inside.call(subprocess.run, ["ip", *command.split()], check=True, timeout=ANSWERED)
        with self.loop:
            connect(self.tap.port, self.user.port)
        self.frames: list[tuple[bytes, VnetHeader | None]] = []
        send = self.user.port.send_view

        def send_view(frame: bytes | memoryview, header: VnetHeader | None = None) -> bool:
            self.frames.append((bytes(frame), header))
            return send(frame, header)

        self.user.port.send_view = send_view  # type: ignore[method-assign] # looks on
        self.inside = inside

    def sizes(self) -> list[tuple[int, int]]:
        """The requests for segmentation that went to the guest: type and size."""
        with self.loop:
            return [(header.gso_type, header.gso_size) for _, header in self.frames if header is not None and header.gso_type]


@pytest.fixture
def site() -> Iterator[Site]:
    found = probe_namespace()
    if not found.available:
        pytest.skip(found.words)
    with ExitStack() as stack:
        yield Site(stack)


def receive(datagram: Datagram, count: int) -> list[bytes]:
    return [datagram.recv(ANSWERED).data for _ in range(count)]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("size", [1, 100, 1400])
def test_both_ways_whole_and_in_order(site: Site, version: int, size: int) -> None:
    payload = bytes(number % 251 for number in range(40 * size))
    pieces = [payload[at : at + size] for at in range(0, len(payload), size)]
    with site.host.udp(SERVERS[version], 9) as server, site.guest.udp(GUESTS[version], 5000) as client:
        client.send_to(b"first", SERVERS[version], 9, ttl=17)  # makes the mapping, and has the guest's address asked for
        mapped = server.recv(ANSWERED).source
        server.send_to(b"answer", mapped.address, mapped.port)
        assert receive(client, 1) == [b"answer"]
        before = site.tap.port.counters["sent"]
        with site.loop:
            client.socket.send_train(payload, size, endpoint(SERVERS[version], 9), 17)  # type: ignore[attr-defined] # an OsHost's
        assert receive(server, 40) == pieces
        assert server.socket.last_ttl == 16  # type: ignore[attr-defined] # likewise
        assert site.tap.port.counters["sent"] - before < 40
        with site.loop:
            server.socket.send_train(payload, size, mapped)  # type: ignore[attr-defined] # likewise
        assert receive(client, 40) == pieces
        assert (GSO_UDP_L4, size) in site.sizes()
        (flow,) = site.user.flows()
        assert (flow.sent, flow.received) == (5 + len(payload), 6 + len(payload))
        assert (flow.datagrams_sent, flow.datagrams_received) == (41, 41)


def test_datagrams_sent_one_by_one_are_joined_while_the_reader_is_busy(site: Site) -> None:
    pieces = [bytes([number]) * 50 for number in range(30)]
    with site.host.udp(SERVERS[4], 9) as server, site.guest.udp(GUESTS[4], 5000) as client:
        client.send_to(b"first", SERVERS[4], 9)
        assert receive(server, 1) == [b"first"]
        before = site.tap.port.counters["sent"]
        with site.loop:  # nobody reads meanwhile
            for piece in pieces:
                client.send_to(piece, SERVERS[4], 9)
        assert receive(server, 30) == pieces
        assert site.tap.port.counters["sent"] - before < 10  # what else Linux says by itself may be in between


def test_what_the_host_does_not_take_together_goes_one_by_one(site: Site) -> None:
    """Datagrams that the host has to fragment: UDP_SEGMENT is refused for them."""
    site.host.namespace.call(subprocess.run, ["ip", "link", "set", "lo", "mtu", "1280"], check=True, timeout=ANSWERED)
    payload = bytes(number % 251 for number in range(4 * 1400))
    with site.host.udp(SERVERS[4], 9) as server, site.guest.udp(GUESTS[4], 5000) as client:
        client.send_to(b"first", SERVERS[4], 9)
        assert receive(server, 1) == [b"first"]
        with site.loop:
            client.socket.send_train(payload, 1400, endpoint(SERVERS[4], 9))  # type: ignore[attr-defined] # an OsHost's
        assert b"".join(receive(server, 4)) == payload


def test_an_error_about_a_train_reaches_its_sender(site: Site) -> None:
    with site.guest.udp(GUESTS[4], 5000) as client, site.host.udp(SERVERS[4], 9) as server:
        client.send_to(b"first", SERVERS[4], 9)
        assert receive(server, 1) == [b"first"]
        server.close()
        heard: list[int] = []
        with site.loop:
            client.socket.on_error = lambda error, destination: heard.append(error)
            client.socket.send_train(bytes(300), 100, endpoint(SERVERS[4], 9))  # type: ignore[attr-defined] # an OsHost's
        assert site.loop.run_until(lambda: bool(heard), site.loop.now() + int(ANSWERED * SECOND))
        assert site.user.counters["udp-unreachable"] >= 1


def test_linux_joins_what_came_as_one_frame(site: Site) -> None:
    """A guest that asks for it (UDP_GRO) gets the train as it was sent."""
    with site.inside.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as client, site.host.udp(SERVERS[4], 9) as server:
        client.settimeout(ANSWERED)
        client.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        client.sendto(b"first", (SERVERS[4], 9))
        mapped = server.recv(ANSWERED).source
        server.send_to(b"answer", mapped.address, mapped.port)
        assert client.recv(100) == b"answer"
        with site.loop:
            server.socket.send_train(bytes(1000), 100, mapped)  # type: ignore[attr-defined] # an OsHost's
        payload, control, _, _ = client.recvmsg(65_536, 100)
        assert payload == bytes(1000)
        assert [(level, kind, int.from_bytes(value[:2], "little")) for level, kind, value in control] == [(17, UDP_GRO, 100)]


def test_a_kernel_without_uso_is_asked_for_nothing_of_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = TapPort._accepts
    monkeypatch.setattr(TapPort, "_accepts", lambda self, offloads: not offloads & USO and usual(self, offloads))
    with closing(TapPort(site.loop, site.inside, "eth1")) as tap:
        assert tap.port.offloads == EVERYTHING & ~USO
        with site.loop:
            other = Port(site.loop, "other")
            other.attach(lambda frame, header: True, offloads=EVERYTHING)
            connect(other, tap.port)
            other.disconnect()


@pytest.fixture
def tshark(netemu_platform: object) -> str:
    netemu_platform.require("tshark")  # type: ignore[attr-defined] # the plugin's
    return "tshark"


@pytest.mark.parametrize("version", [4, 6])
def test_scapy_and_tshark_find_every_datagram_right(site: Site, tshark: str, tmp_path: Path, version: int) -> None:
    payload = bytes(number % 251 for number in range(20 * 33 - 5))
    with site.host.udp(SERVERS[version], 9) as server, site.guest.udp(GUESTS[version], 5000) as client:
        client.send_to(b"first", SERVERS[version], 9)
        mapped = server.recv(ANSWERED).source
        server.send_to(b"answer", mapped.address, mapped.port)
        assert receive(client, 1) == [b"answer"]
        with site.loop:
            server.socket.send_train(payload, 33, mapped)  # type: ignore[attr-defined] # an OsHost's
        assert b"".join(receive(client, 20)) == payload
    with site.loop:
        ((frame, header),) = [(frame, header) for frame, header in site.frames if header is not None and header.gso_type]
    pieces = lower(frame, header)
    for piece, at in zip(pieces, range(0, len(payload), 33), strict=True):
        packet = Ether(piece)
        ip = packet[IP if version == 4 else IPv6]
        assert bytes(packet[UDP].payload) == payload[at : at + 33]
        claimed = packet[UDP].chksum
        del packet[UDP].chksum
        if version == 4:
            del ip.chksum
        again = Ether(bytes(packet))
        assert (again[UDP].chksum, bytes(again)) == (claimed, piece)
    wrpcap(str(tmp_path / "train.pcap"), [Ether(piece) for piece in pieces])
    done = subprocess.run(
        [
            tshark,
            *("-n", "-r", tmp_path / "train.pcap", "-o", "udp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"),
            *("-T", "fields", "-e", "udp.checksum.status", "-e", "ip.checksum.status", "-e", "udp.length", "-e", "_ws.expert"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    good = "1" if version == 4 else ""
    expected = [["1", good, str(8 + len(payload[at : at + 33])), ""] for at in range(0, len(payload), 33)]
    assert [line.split("\t") for line in done.stdout.splitlines()] == expected
