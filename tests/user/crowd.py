"""A user-mode network with two guests on a hub: a well-behaved one, and one that is whatever a test makes of it.

The well-behaved guest is a millisecond away, so that its exchanges take time in which the other one speaks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address
from itertools import islice
from pathlib import Path
from typing import Self

from netemu.guest.inproc import InprocGuest
from netemu.io.simhost import SimHost
from netemu.net.clock import MILLISECOND
from netemu.net.link import Link
from netemu.net.port import Port, connect
from netemu.netdev.user import UserNetdev
from netemu.network import Network
from netemu.wire import tftp
from netemu.wire.address import MacAddress

GATEWAY, DNS, GUEST, SERVER = map(IPv4Address, ("10.0.2.2", "10.0.2.3", "10.0.2.99", "198.51.100.7"))
GATEWAY6, DNS6, ROUTER6, GUEST6, LINK6, SERVER6 = map(
    IPv6Address, ("fec0::2", "fec0::3", "fe80::2", "fec0::99", "fe80::99", "2001:db8::7")
)
GATEWAY_MAC = MacAddress("52:55:0a:00:02:02")
MAC = MacAddress("52:54:00:00:00:99")  # of the guest that says what it likes
ECHO, SILENT = 7, 9  # ports of the servers: one answers, one hears
FILE = bytes(range(256)) * 8 + b"the end"


class Crowd:
    """`heard` counts what the network and the other guest sent; `hear` sees each of these frames."""

    def __init__(self, directory: Path, options: str = "") -> None:
        (directory / "file").write_bytes(FILE)
        self.network = Network()
        self.loop = self.network.loop
        host = self.network.host
        assert isinstance(host, SimHost)
        self.host = host
        for address in (SERVER, SERVER6):
            host.add_address(address)
            for port in (ECHO, 21, 113, 6667):
                host.echo_server(address, port)
            host.echo_server(address, ECHO, "udp")
            host.udp(address, SILENT)
        host.dns_server({"www.example.test": [str(SERVER), str(SERVER6)]})
        user = self.network.netdev(f"user,tftp={directory}{options}")
        assert isinstance(user, UserNetdev)
        self.user = user
        hub = self.network.hub()
        connect(hub.port(), user.port)
        guest = self.network.guest()
        assert isinstance(guest, InprocGuest)
        self.guest = guest
        Link(self.loop, "guest", guest.port, hub.port(), delay=MILLISECOND)
        self.heard = 0
        self.hear: Callable[[bytes], None] = lambda frame: None
        self.port = Port(self.loop, "crowd", self._receive)
        connect(self.port, hub.port())
        guest.dhcp4()
        guest.slaac()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.network.close()

    def _receive(self, frame: bytes, header: object) -> bool:
        self.heard += 1
        self.hear(frame)
        return True

    def say(self, frames: Iterable[bytes]) -> None:
        """All at this moment, each after what the one before it led to at once."""
        for frame in frames:
            self.port.send(frame)
            self.network.run_for(0)

    def flood(self, frames: Iterator[bytes], rate: int) -> None:
        """`rate` of these frames from now on, each millisecond, until there are no more."""

        def burst() -> None:
            some = list(islice(frames, rate))
            for frame in some:
                self.port.send(frame)
            if some:
                self.loop.call_at(self.loop.now() + MILLISECOND, burst)

        burst()

    def serves(self) -> None:
        """The well-behaved guest gets what it should, of every service and over both families."""
        guest, lease = self.guest, self.guest.lease
        assert lease is not None
        address = lease.address
        guest.renew()
        assert guest.lease is not None
        assert guest.lease.address == address
        for server, gateway in ((SERVER, GATEWAY), (SERVER6, GATEWAY6)):
            assert guest.ping(gateway).ok
            assert guest.ping(server).ok
            with guest.tcp_connect(server, ECHO) as stream:
                stream.send(FILE)
                assert stream.recv_exactly(len(FILE)) == FILE
            with guest.udp() as socket:
                socket.send_to(b"hello", server, ECHO)
                assert socket.recv().data == b"hello"
        assert [str(each) for each in guest.resolve("www.example.test")] == [str(SERVER)]
        assert self._read_file() == FILE

    def _read_file(self) -> bytes:
        """The file that the network serves, by TFTP."""
        got = b""
        with self.guest.udp() as socket:
            socket.send_to(tftp.Request(tftp.Opcode.RRQ, "file").pack(), GATEWAY, tftp.SERVER_PORT)
            while True:
                answer = socket.recv()
                block = tftp.parse(answer.data)
                assert isinstance(block, tftp.Data)
                got += block.data
                socket.send_to(tftp.Acknowledgment(block.block).pack(), answer.source.address, answer.source.port)
                if len(block.data) < tftp.BLOCK_SIZE:
                    return got
