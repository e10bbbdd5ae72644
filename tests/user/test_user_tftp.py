"""The TFTP server, packet by packet (RFC 1350, 2347-2349, 7440), with files in memory and a client that says what a test wants."""

import errno
from collections import Counter
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.errors import HostError
from netemu.net.clock import SECOND
from netemu.user.netascii import NetasciiReader, NetasciiWriter
from netemu.user.tftp import TftpServer
from netemu.wire import tftp
from netemu.wire.address import Endpoint
from netemu.wire.errors import WireError
from netemu.wire.tftp import Acknowledgment, Data, Error, ErrorCode, Opcode, OptionAcknowledgment, Request

GUEST = Endpoint(IPv4Address("10.0.2.15"), 2000)
OTHER = Endpoint(IPv4Address("10.0.2.16"), 2000)
TEXT = bytes(range(256)) * 5  # 1280 octets: blocks of 512, 512 and 256


class Memory:
    """Files in memory. It is also the file that is open: `read` and `write` as the server calls them."""

    def __init__(self, **files: bytes) -> None:
        self.files = files
        self.open_files = 0
        self.full_at = 1 << 40

    def open(self, name: str) -> "MemoryFile":
        if name not in self.files:
            raise HostError(errno.ENOENT, f"open {name}")
        return MemoryFile(self, name, self.files[name])

    def create(self, name: str) -> "MemoryFile":
        if name in self.files:
            raise HostError(errno.EEXIST, f"create {name}")
        return MemoryFile(self, name, b"")


class MemoryFile:
    def __init__(self, store: Memory, name: str, data: bytes) -> None:
        self.store, self.name, self.data, self.at = store, name, data, 0
        self.size = len(data)
        store.open_files += 1

    def read(self, count: int) -> bytes:
        if self.at >= self.store.full_at:
            raise HostError(errno.EIO, "read")
        self.at += count
        return self.data[self.at - count : self.at]

    def write(self, data: bytes) -> None:
        if len(self.data) + len(data) > self.store.full_at:
            raise HostError(errno.ENOSPC, "write")
        self.data += data

    def commit(self) -> None:
        self.store.files[self.name] = self.data

    def close(self) -> None:
        self.store.open_files -= 1


class Bench:
    """The server, the time, and what it sent to whom from which port."""

    def __init__(self, store: Memory | None = None, *, writable: bool = True, mtu: int = 1500) -> None:
        self.store = store or Memory(text=TEXT)
        self.counters: Counter[str] = Counter()
        self.now = 0
        self.sent: list[tuple[int, Endpoint, tftp.Packet]] = []
        self.server = TftpServer(self.store, self._sent, lambda bits: (1 << bits) - 1, self.counters, mtu=mtu, writable=writable)

    def _sent(self, port: int, guest: Endpoint, octets: bytes, now: int) -> None:
        assert now == self.now
        self.sent.append((port, guest, tftp.parse(octets)))

    def ask(self, packet: tftp.Packet, port: int = 69, guest: Endpoint = GUEST) -> list[tftp.Packet]:
        """The answers to `packet`."""
        self.sent.clear()
        self.server.receive(guest, port, packet.pack(), self.now)
        return [answer for _, _, answer in self.sent]

    def begin(self, opcode: Opcode = Opcode.RRQ, name: str = "text", mode: str = "octet", **options: str) -> list[tftp.Packet]:
        """The answers to a request; `port` is the transfer's from now on."""
        answers = self.ask(Request(opcode, name, mode, options))
        self.port = self.sent[0][0]
        return answers

    def later(self, seconds: float) -> list[tftp.Packet]:
        """What is sent when so much time has passed and nothing came."""
        self.sent.clear()
        end = self.now + int(seconds * SECOND)
        while (due := self.server.deadline()) is not None and due <= end:
            self.now = due
            self.server.expire(self.now)
        self.now = end
        return [packet for _, _, packet in self.sent]

    def acknowledge(self, block: int) -> list[tftp.Packet]:
        return self.ask(Acknowledgment(block), self.port)

    def read_all(self, first: list[tftp.Packet]) -> bytes:
        """Go on as a good client until nothing more comes."""
        data, expected, answers = b"", 1, first
        while answers:
            last = 0
            for packet in answers:
                assert isinstance(packet, Data)
                assert packet.block == expected & 0xFFFF
                data, last, expected = data + packet.data, packet.block, expected + 1
            answers = self.acknowledge(last)
        return data


def test_reading_in_lock_step() -> None:
    bench = Bench()
    assert bench.begin() == [Data(1, TEXT[:512])]
    assert bench.port != 69
    assert bench.acknowledge(1) == [Data(2, TEXT[512:1024])]
    assert bench.acknowledge(2) == [Data(3, TEXT[1024:])]
    assert bench.acknowledge(3) == []
    assert (bench.counters["tftp-done"], bench.store.open_files, bench.server.deadline()) == (1, 0, None)
    assert not bench.server.owns(bench.port)


@pytest.mark.parametrize("size", [0, 512, 1024])
def test_a_file_of_whole_blocks_ends_with_an_empty_one(size: int) -> None:
    bench = Bench(Memory(text=bytes(size)))
    packet = bench.begin()[0]
    for block in range(1, size // 512 + 1):
        packet = bench.acknowledge(block)[0]
    assert packet == Data(size // 512 + 1, b"")


def test_a_duplicate_acknowledgment_sends_nothing() -> None:
    """RFC 1123 4.2.3.1: else every delayed packet would double all that follow."""
    bench = Bench()
    bench.begin()
    bench.acknowledge(1)
    assert bench.acknowledge(1) == []
    assert bench.acknowledge(0) == []
    assert bench.acknowledge(3) == []
    assert bench.acknowledge(2) == [Data(3, TEXT[1024:])]


def test_what_is_lost_is_sent_again_later_and_later() -> None:
    bench = Bench()
    block = bench.begin()
    assert bench.later(0.999) == []
    assert bench.later(0.001) == block
    assert bench.later(1.999) == []
    assert bench.later(0.001) == block
    assert bench.later(4) == block
    assert bench.acknowledge(1) == [Data(2, TEXT[512:1024])]
    assert bench.later(1) == [Data(2, TEXT[512:1024])]
    assert len(bench.later(62)) == 4
    assert (bench.counters["tftp-timed-out"], bench.store.open_files) == (1, 0)


def test_an_agreed_interval_does_not_grow() -> None:
    bench = Bench()
    assert bench.begin(timeout="3") == [OptionAcknowledgment({"timeout": "3"})]
    assert [len(bench.later(3)) for _ in range(7)] == [1, 1, 1, 1, 1, 0, 0]


def test_options_and_their_limits() -> None:
    bench = Bench()
    granted = bench.begin(blksize="8192", tsize="0", timeout="255", windowsize="64", colour="red")
    assert granted == [OptionAcknowledgment({"blksize": "1468", "tsize": "1280", "timeout": "255", "windowsize": "16"})]
    assert bench.acknowledge(0) == [Data(1, TEXT)]


@pytest.mark.parametrize("mtu", [576, 1500, 9000])
@pytest.mark.parametrize(("guest", "headers"), [(GUEST, 32), (Endpoint(IPv6Address("fec0::15"), 2000), 52)])
def test_the_largest_block_fits_one_datagram(mtu: int, guest: Endpoint, headers: int) -> None:
    request = Request(Opcode.RRQ, "text", "octet", {"blksize": "65464"})
    assert Bench(mtu=mtu).ask(request, guest=guest) == [OptionAcknowledgment({"blksize": str(mtu - headers)})]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("blksize", "7"),
        ("blksize", "65465"),
        ("blksize", "-512"),
        ("blksize", ""),
        ("blksize", "9" * 5000),
        ("timeout", "0"),
        ("timeout", "256"),
        ("windowsize", "0"),
        ("windowsize", "65536"),
        ("tsize", "x"),
    ],
)
def test_a_value_out_of_its_range_is_not_granted(name: str, value: str) -> None:
    assert Bench().ask(Request(Opcode.RRQ, "text", "octet", {name: value})) == [Data(1, TEXT[:512])]


@pytest.mark.parametrize(("name", "value"), [("blksize", "8"), ("timeout", "1"), ("windowsize", "1"), ("blksize", "1468")])
def test_a_value_at_its_limit_is_granted(name: str, value: str) -> None:
    assert Bench().ask(Request(Opcode.RRQ, "text", "octet", {name: value})) == [OptionAcknowledgment({name: value})]


def test_windows() -> None:
    bench = Bench()
    bench.begin(blksize="100", windowsize="4")
    first = bench.acknowledge(0)
    assert first == [Data(block, TEXT[100 * block - 100 : 100 * block]) for block in (1, 2, 3, 4)]
    second = bench.acknowledge(4)
    assert [packet.block for packet in second if isinstance(packet, Data)] == [5, 6, 7, 8]
    after_a_gap = bench.acknowledge(6)
    assert [packet.block for packet in after_a_gap if isinstance(packet, Data)] == [7, 8, 9, 10]
    assert bench.later(1) == after_a_gap
    assert bench.acknowledge(6) == []


def test_block_numbers_roll_over() -> None:
    data = bytes(8 * 65_540)
    bench = Bench(Memory(text=data))
    bench.begin(blksize="8", windowsize="16")
    assert len(bench.read_all(bench.acknowledge(0))) == len(data)
    assert bench.counters["tftp-done"] == 1


def test_another_endpoint_does_not_disturb_a_transfer() -> None:
    bench = Bench()
    bench.begin()
    (error,) = bench.ask(Acknowledgment(1), bench.port, OTHER)
    assert isinstance(error, Error)
    assert error.code == ErrorCode.UNKNOWN_TRANSFER_ID
    assert bench.sent[0][1] == OTHER
    assert bench.ask(Error(0), bench.port, OTHER) == []
    assert bench.acknowledge(1) == [Data(2, TEXT[512:1024])]


def test_a_repeated_request_is_the_same_transfer() -> None:
    bench = Bench()
    first = bench.begin()
    port = bench.port
    assert (bench.begin(), bench.port, bench.counters["tftp-requests"]) == (first, port, 1)
    bench.acknowledge(1)
    assert bench.begin() == first
    assert bench.port != port


def test_the_guest_may_end_a_transfer() -> None:
    bench = Bench()
    bench.begin()
    assert bench.ask(Error(ErrorCode.NOT_DEFINED, "enough"), bench.port) == []
    assert (bench.store.open_files, bench.server.deadline()) == (0, None)


def code(packets: list[tftp.Packet]) -> int:
    (error,) = packets
    assert isinstance(error, Error)
    assert error.message
    return error.code


def test_what_is_refused() -> None:
    bench = Bench()
    assert code(bench.begin(name="none")) == ErrorCode.FILE_NOT_FOUND
    assert bench.port == 69
    assert code(bench.begin(mode="mail")) == ErrorCode.ILLEGAL_OPERATION
    assert code(bench.begin(Opcode.WRQ, "text")) == ErrorCode.FILE_EXISTS
    assert code(bench.begin(Opcode.WRQ, "new", tsize=str((1 << 28) + 1))) == ErrorCode.DISK_FULL
    assert code(Bench(writable=False).begin(Opcode.WRQ, "new")) == ErrorCode.ACCESS_VIOLATION
    assert bench.ask(Acknowledgment(1)) == []
    assert (bench.counters["tftp-refused"], bench.counters["tftp-not-a-request"], bench.store.open_files) == (4, 1, 0)


def test_a_file_that_cannot_be_read_on() -> None:
    bench = Bench()
    bench.begin()
    bench.store.full_at = 512
    assert code(bench.acknowledge(1)) == ErrorCode.NOT_DEFINED
    assert (bench.store.open_files, bench.server.deadline()) == (0, None)
    bench.store.full_at = 0
    assert code(bench.begin()) == ErrorCode.NOT_DEFINED
    assert bench.store.open_files == 0


def test_writing_in_lock_step() -> None:
    bench = Bench()
    assert bench.begin(Opcode.WRQ, "new") == [Acknowledgment(0)]
    assert bench.later(1) == [Acknowledgment(0)]
    assert bench.ask(Data(1, TEXT[:512]), bench.port) == [Acknowledgment(1)]
    assert bench.ask(Data(1, TEXT[:512]), bench.port) == [Acknowledgment(1)]
    assert bench.ask(Data(2, TEXT[:512]), bench.port) == [Acknowledgment(2)]
    assert "new" not in bench.store.files
    assert bench.ask(Data(3, b"end"), bench.port) == [Acknowledgment(3)]
    assert bench.store.files["new"] == TEXT[:512] * 2 + b"end"
    assert bench.ask(Data(3, b"end"), bench.port) == [Acknowledgment(3)]
    assert bench.later(5) == []
    assert (bench.counters["tftp-done"], bench.store.open_files) == (1, 0)


def test_writing_in_windows() -> None:
    bench = Bench()
    assert bench.begin(Opcode.WRQ, "new", windowsize="3", tsize="2000") == [
        OptionAcknowledgment({"windowsize": "3", "tsize": "2000"})
    ]
    assert bench.later(1) == [OptionAcknowledgment({"windowsize": "3", "tsize": "2000"})]
    blocks = [Data(number, bytes([number]) * 512) for number in range(1, 6)]
    answers = [bench.ask(block, bench.port) for block in blocks[:3]]
    assert answers == [[], [], [Acknowledgment(3)]]
    assert bench.ask(blocks[4], bench.port) == [Acknowledgment(3)]
    assert bench.ask(blocks[4], bench.port) == []
    assert bench.later(1) == [Acknowledgment(3)]
    assert [bench.ask(block, bench.port) for block in blocks[3:]] == [[], []]
    assert bench.ask(Data(6, b""), bench.port) == [Acknowledgment(6)]
    assert bench.store.files["new"] == b"".join(block.data for block in blocks)


def test_a_file_that_is_not_finished_is_not_there() -> None:
    bench = Bench()
    bench.begin(Opcode.WRQ, "new")
    bench.ask(Data(1, TEXT[:512]), bench.port)
    bench.later(63)
    assert ("new" in bench.store.files, bench.store.open_files) == (False, 0)
    bench.store.full_at = 600
    bench.begin(Opcode.WRQ, "new")
    bench.ask(Data(1, TEXT[:512]), bench.port)
    assert code(bench.ask(Data(2, TEXT[:512]), bench.port)) == ErrorCode.DISK_FULL
    assert ("new" in bench.store.files, bench.store.open_files) == (False, 0)


def test_packets_out_of_place_change_nothing() -> None:
    bench = Bench()
    bench.begin()
    for packet in (Data(1, b""), OptionAcknowledgment({}), Request(Opcode.RRQ, "text")):
        assert bench.ask(packet, bench.port) == []
    assert bench.counters["tftp-out-of-place"] == 3
    assert bench.acknowledge(1) == [Data(2, TEXT[512:1024])]
    with pytest.raises(WireError):
        bench.server.receive(GUEST, 69, b"\0", 0)


def test_transfers_are_bounded_and_a_crowd_pays_for_itself() -> None:
    bench = Bench()
    bench.begin()
    port = bench.port
    for number in range(100):
        bench.ask(Request(Opcode.RRQ, "text"), guest=Endpoint(OTHER.address, 3000 + number))
    assert bench.store.open_files == 20
    assert bench.counters["tftp-evicted"] == 81
    assert bench.ask(Acknowledgment(1), port) == [Data(2, TEXT[512:1024])]
    flows = bench.server.flows()
    assert len(flows) == 20
    assert (flows[0].guest, flows[0].state, flows[0].received) == (GUEST, "tftp", 1024)
    bench.server.close()
    assert bench.store.open_files == 0


def test_netascii() -> None:
    bench = Bench(Memory(text=b"one\ntwo\rthree"))
    assert bench.begin(mode="netascii", tsize="0") == [Data(1, b"one\r\ntwo\r\0three")]
    bench.begin(Opcode.WRQ, "new", "netascii")
    bench.ask(Data(1, b"a\r\nb\r\0c\r"), bench.port)
    assert bench.store.files["new"] == b"a\nb\rc\r"


@given(
    st.binary(max_size=200).map(lambda data: data.replace(b"a", b"\r").replace(b"b", b"\n")), st.integers(1, 9), st.integers(1, 9)
)
@settings(max_examples=200, deadline=None)
def test_netascii_there_and_back(data: bytes, reading: int, writing: int) -> None:
    reader = NetasciiReader(MemoryFile(Memory(), "", data))
    octets = b"".join(iter(lambda: reader.read(reading), b""))
    written = MemoryFile(Memory(), "", b"")
    writer = NetasciiWriter(written)
    for at in range(0, len(octets), writing):
        writer.write(octets[at : at + writing])
    writer.flush()
    assert written.data == data


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_a_lossy_network_delivers_the_file_once(lost: list[bool], window: int) -> None:
    """Whichever packets are lost, in either direction, the client gets the file and the server ends."""
    bench, fates = Bench(), iter(lost)
    received, expected = b"", 1
    answers = bench.begin(windowsize=str(window), timeout="1")
    for _ in range(200):
        arrived = [packet for packet in answers if not next(fates, False)]
        before = expected
        for packet in arrived:
            if isinstance(packet, Data) and packet.block == expected:
                received, expected = received + packet.data, expected + 1
        speaks = (expected > before or any(isinstance(packet, OptionAcknowledgment) for packet in arrived)) and not next(
            fates, False
        )
        answers = bench.acknowledge(expected - 1) if speaks else []
        if not answers:
            if bench.server.deadline() is None:
                break
            answers = bench.later(1)
            if expected > 1 and not next(fates, False):
                answers = [*answers, *bench.acknowledge(expected - 1)] if bench.server.deadline() is not None else []
    if not bench.counters["tftp-timed-out"]:
        assert received == TEXT
    assert TEXT.startswith(received)
