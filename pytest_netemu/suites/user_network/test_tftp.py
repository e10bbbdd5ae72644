"""TFTP at the gateway: a directory of the host's, one block after the other (RFC 1350, its options, RFC 1123 4.2.3)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from netemu.netdev.protocol import UserBackend
from netemu.network import Network
from netemu.wire import tftp
from netemu.wire.dhcpv4 import DhcpOption
from netemu.wire.tftp import Acknowledgment, Data, Error, ErrorCode, Opcode, OptionAcknowledgment, Request
from netemu.wire.udp import Udp
from pytest_netemu.factories import BackendFactory
from pytest_netemu.suites import judges
from pytest_netemu.tester import Tester

pytestmark = pytest.mark.netemu_requires("arp", "tftp.server")

_CONTENT = bytes(range(256)) * 9  # 2304 octets: blocks of 512 four times, and of 256
_WHOLE_BLOCKS = _CONTENT[:1024]
_PATIENCE = 12.0  # seconds for what comes after a timeout


class _Client:
    """A client with one endpoint. `server` is the port that answered last."""

    def __init__(self, tester: Tester) -> None:
        self._tester = tester
        self._port = tester.fresh_port()
        self.server = tftp.SERVER_PORT

    def say(self, packet: tftp.Packet) -> None:
        self._tester.send_udp(packet.pack(), self.server, source_port=self._port)

    def hear(self, within: float = 1.0) -> tftp.Packet:
        """The next packet for this client."""
        __tracebackhide__ = True
        datagram = self._tester.expect(Udp, destination_port=self._port, within=within)[Udp]
        self.server = datagram.source_port
        return tftp.parse(datagram.payload)

    def silence(self, within: float = 0.5) -> None:
        __tracebackhide__ = True
        self._tester.silence(Udp, destination_port=self._port, within=within)

    def ask(self, name: str = "content", **options: str) -> tftp.Packet:
        """Ask to read a file, and give the first answer."""
        __tracebackhide__ = True
        self.say(Request(Opcode.RRQ, name, "octet", options))
        return self.hear()

    def granted(self, **options: str) -> dict[str, str]:
        """What the server grants of these options."""
        __tracebackhide__ = True
        answer = self.ask(**options)
        return dict(answer.options) if isinstance(answer, OptionAcknowledgment) else {}

    def read(self, name: str) -> bytes:
        """A whole file."""
        __tracebackhide__ = True
        data, packet = b"", self.ask(name)
        for block in range(1, 100):
            assert isinstance(packet, Data)
            assert packet.block == block
            data += packet.data
            self.say(Acknowledgment(block))
            if len(packet.data) < tftp.BLOCK_SIZE:
                break
            packet = self.hear()
        return data


@pytest.fixture
def served() -> Iterator[Path]:
    """A directory that everybody may read, for the server may run as nobody."""
    with TemporaryDirectory() as name:
        directory = Path(name) / "served"
        directory.mkdir()
        (directory / "content").write_bytes(_CONTENT)
        (directory / "whole").write_bytes(_WHOLE_BLOCKS)
        Path(name).chmod(0o755)
        yield directory


@pytest.fixture
def tester(netemu: Network, netemu_backend: UserBackend, netemu_backend_factory: BackendFactory, served: Path) -> Tester:
    del netemu_backend  # it says which kind
    return Tester(netemu, netemu_backend_factory(tftp=str(served)))


@pytest.fixture
def client(tester: Tester) -> _Client:
    return _Client(tester)


@judges("qemu/tftp/01")
def test_the_directory_is_served(client: _Client) -> None:
    assert client.read("content") == _CONTENT


@judges("qemu/tftp/02")
def test_nothing_is_written(tester: Tester, client: _Client, served: Path) -> None:
    client.say(Request(Opcode.WRQ, "new"))
    tester.silence(Udp, lambda datagram: datagram.payload[:2] == Opcode.ACK.to_bytes(2, "big"), within=1)
    assert sorted(path.name for path in served.iterdir()) == ["content", "whole"]


@judges("rfc1350/security/01")
@pytest.mark.parametrize("name", ["../secret", "/../secret", "link"])
def test_no_name_leads_out_of_the_directory(client: _Client, served: Path, name: str) -> None:
    secret = served.parent / "secret"
    secret.write_bytes(b"secret")
    secret.chmod(0o644)
    (served / "link").symlink_to(secret)
    answer = client.ask(name)
    assert isinstance(answer, Error), f"{name!r} was answered with {answer}"


@judges("rfc1350/2/01")
def test_a_block_waits_for_the_acknowledgment_of_the_one_before(client: _Client) -> None:
    assert client.ask() == Data(1, _CONTENT[:512])
    client.silence()
    client.say(Acknowledgment(1))
    assert client.hear() == Data(2, _CONTENT[512:1024])


@judges("rfc1350/2/02")
def test_whole_blocks_end_with_an_empty_one(client: _Client) -> None:
    assert client.read("whole") == _WHOLE_BLOCKS


@judges("rfc1350/2/03")
def test_a_block_that_was_lost_comes_again(client: _Client) -> None:
    first = client.ask()
    assert client.hear(_PATIENCE) == first


@judges("rfc1350/4/01")
def test_a_transfer_has_a_port_of_its_own(client: _Client) -> None:
    client.ask()
    assert client.server != tftp.SERVER_PORT, f"the transfer goes on from port {client.server}"


@judges("rfc1350/4/02")
def test_a_strangers_packet_is_an_error_and_disturbs_nothing(tester: Tester, client: _Client) -> None:
    client.ask()
    stranger = _Client(tester)
    stranger.server = client.server
    stranger.say(Acknowledgment(1))
    error = stranger.hear()
    assert isinstance(error, Error)
    assert error.code == ErrorCode.UNKNOWN_TRANSFER_ID
    client.say(Acknowledgment(1))
    assert client.hear() == Data(2, _CONTENT[512:1024])


@judges("rfc1350/5/01")
@pytest.mark.parametrize("block", [2, 3, 0x8001])
def test_an_acknowledgment_of_another_block_is_none_of_this_one(client: _Client, block: int) -> None:
    client.ask()
    client.say(Acknowledgment(block))
    client.silence()


@judges("rfc1123/4.2.3.1/01")
def test_a_duplicate_acknowledgment_sends_nothing_twice(client: _Client) -> None:
    client.ask()
    client.say(Acknowledgment(1))
    second = client.hear()
    client.say(Acknowledgment(1))
    client.silence()
    assert isinstance(second, Data)
    client.say(Acknowledgment(2))
    assert client.hear() == Data(3, _CONTENT[1024:1536])


@judges("rfc1123/4.2.3.2/01")
def test_the_timeout_grows(tester: Tester, client: _Client) -> None:
    client.ask()
    times = [tester.network.loop.now()]
    for _ in range(3):
        client.hear(_PATIENCE)
        times.append(tester.network.loop.now())
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert waits[0] < waits[1] < waits[2]


@judges("rfc2347/negotiation/01")
def test_only_options_that_were_asked_for_are_acknowledged(client: _Client) -> None:
    assert client.granted(blksize="1024", colour="red").keys() <= {"blksize"}


@judges("rfc2348/option/01")
@pytest.mark.parametrize("size", ["8", "512", "1400", "65464"])
def test_a_block_is_no_larger_than_asked_for(client: _Client, size: str) -> None:
    granted = int(client.granted(blksize=size)["blksize"])
    assert 8 <= granted <= int(size)
    client.say(Acknowledgment(0))
    assert client.hear() == Data(1, _CONTENT[:granted])


@judges("rfc2349/tsize/01")
def test_the_size_of_the_file_is_told(client: _Client) -> None:
    assert client.granted(tsize="0") == {"tsize": str(len(_CONTENT))}


@judges("rfc2349/timeout/01")
@pytest.mark.parametrize("seconds", ["1", "7", "255"])
def test_a_timeout_is_granted_as_it_is_or_not_at_all(client: _Client, seconds: str) -> None:
    assert client.granted(timeout=seconds).get("timeout", seconds) == seconds


@judges("rfc7440/3/01")
@pytest.mark.parametrize("blocks", ["1", "4", "65535"])
def test_a_window_is_no_larger_than_asked_for(client: _Client, blocks: str) -> None:
    assert 1 <= int(client.granted(windowsize=blocks).get("windowsize", "1")) <= int(blocks)


@judges("qemu/bootfile/01")
@pytest.mark.netemu_requires("dhcp4.server")
def test_the_boot_file_is_told_and_can_be_read(
    netemu: Network, netemu_backend: UserBackend, netemu_backend_factory: BackendFactory, served: Path
) -> None:
    del netemu_backend  # it says which kind
    tester = Tester(netemu, netemu_backend_factory(tftp=str(served), bootfile="content"))
    ack = tester.lease()
    assert (ack.file, ack.siaddr) == (b"content", tester.gateway)
    assert _Client(tester).read(ack.file.decode()) == _CONTENT


@judges("qemu/tftp-server-name/01")
@pytest.mark.netemu_requires("dhcp4.server")
def test_another_boot_server_is_told(netemu: Network, netemu_backend: UserBackend, netemu_backend_factory: BackendFactory) -> None:
    del netemu_backend  # it says which kind
    ack = Tester(netemu, netemu_backend_factory(tftp_server_name="192.0.2.69")).lease()
    assert ack.options.get(DhcpOption.TFTP_SERVER_NAME) == b"192.0.2.69"
