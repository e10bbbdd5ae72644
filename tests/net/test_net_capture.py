from __future__ import annotations

import struct
import subprocess
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from netemu.errors import LocalError
from netemu.net.capture import FrameLog, pcapng, write_pcapng
from netemu.net.clock import MILLISECOND
from netemu.net.ladder import ladder
from netemu.net.link import FrameRecord
from netemu.wire.address import BROADCAST_MAC, ZERO_MAC, MacAddress
from netemu.wire.arp import Arp, ArpOperation
from netemu.wire.ether import Ethernet, EtherType

MAC = MacAddress("52:54:00:12:34:56")


def arp(number):
    who = Arp(ArpOperation.REQUEST, MAC, IPv4Address("10.0.2.15"), ZERO_MAC, IPv4Address("10.0.2.0") + number)
    return Ethernet(BROADCAST_MAC, MAC, EtherType.ARP, who.pack()).pack()


def record(number, source="guest0", destination="user0", *, fate="delivered", link="cable0", time=None):
    when = number * MILLISECOND if time is None else time
    return FrameRecord(number, when, link, source, destination, arp(number), fate)


TALK = [
    record(0),
    record(1, "user0", "guest0", fate="delay 5000000"),
    record(2, fate="drop"),
    record(3, "guest1", "hub0port0", link="cable1"),
]


def filled(records, **options):
    log = FrameLog(**options)
    for each in records:
        log(each)
    return log


class TestFrameLog:
    def test_keeps_what_it_is_given(self):
        log = filled(TALK)
        assert log.records == tuple(TALK)
        assert (len(log), list(log), log.overflowed) == (4, TALK, 0)

    def test_counts_what_it_lets_go(self):
        log = filled([record(number) for number in range(100)], capacity=3000)  # each counts as its 42 octets and 256 more
        assert [kept.number for kept in log] == list(range(90, 100))  # the newest are kept
        assert log.overflowed == 90

    def test_keeps_the_newest_frame_however_long(self):
        log = filled([record(0), replace(record(1), frame=bytes(5000))], capacity=100)
        assert [kept.number for kept in log.records] == [1]

    def test_the_digest_does_not_depend_on_what_is_kept(self):
        records = [record(number) for number in range(50)]
        assert filled(records, capacity=1000).digest() == filled(records).digest()

    @pytest.mark.parametrize(
        "change",
        [{"time": 9}, {"link": "x"}, {"source": "x"}, {"destination": "x"}, {"fate": "drop"}, {"frame": b"x"}],
        ids=lambda change: next(iter(change)),
    )
    def test_the_digest_sees_every_part(self, change):
        changed = [*TALK[:-1], replace(TALK[-1], **change)]
        assert filled(changed).digest() != filled(TALK).digest()

    def test_the_digest_sees_the_order(self):
        assert filled(reversed(TALK)).digest() != filled(TALK).digest()

    def test_a_capacity_is_positive(self):
        with pytest.raises(LocalError, match="1 or more"):
            FrameLog(0)


def test_blocks_are_whole_and_aligned():
    data = b"".join(pcapng(TALK, {0: ["odd"]}, about="a test"))
    kinds, at = [], 0
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        assert length % 4 == 0
        assert struct.unpack_from("<I", data, at + length - 4) == (length,)
        kinds.append(kind)
        at += length
    assert kinds == [0x0A0D0D0A, 1, 6, 6, 6, 1, 6]


class TestTshark:
    """An independent reader: it opens the file without complaint and shows what we wrote."""

    @pytest.fixture(autouse=True)
    def tshark(self, netemu_platform):
        netemu_platform.require("tshark")

    def read(self, path, *fields):
        options = [option for field in fields for option in ("-e", field)]
        done = subprocess.run(
            ["tshark", "-n", "-r", path, "-T", "fields", "-E", "aggregator=;", *options],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        complaints = [line for line in done.stderr.splitlines() if "Running as user" not in line]
        assert complaints == []
        return [line.split("\t") for line in done.stdout.splitlines()]

    @pytest.fixture
    def capture(self, tmp_path):
        path = tmp_path / "talk.pcapng"
        write_pcapng(path, TALK, {0: ["rfc826/1: fail", "second"], 2: ["é"]}, about="tests/test_x.py::test_y")
        return path

    def test_interfaces_times_and_directions(self, capture):
        found = self.read(capture, "frame.interface_name", "frame.time_epoch", "frame.packet_flags_direction")
        assert found == [
            ["cable0", "0.000000000", "0x00000002"],
            ["cable0", "0.001000000", "0x00000001"],
            ["cable0", "0.002000000", "0x00000002"],
            ["cable1", "0.003000000", "0x00000002"],
        ]

    def test_viewpoints(self, capture):
        found = self.read(capture, "frame.interface_description")
        assert found[0] == ["seen from guest0: its frames are outbound, those of user0 inbound"]

    def test_comments(self, capture):
        assert self.read(capture, "frame.comment") == [
            ["rfc826/1: fail;second"],
            ["fate: delay 5000000"],
            ["fate: drop;é"],
            [""],
        ]

    def test_frames(self, capture):
        found = self.read(capture, "arp.dst.proto_ipv4", "_ws.malformed")
        assert found == [[f"10.0.2.{number}", ""] for number in range(4)]

    def test_times_past_32_bits(self, tmp_path):
        path = tmp_path / "late.pcapng"
        write_pcapng(path, [record(0, time=(1 << 40) + 7)])
        assert self.read(path, "frame.time_epoch") == [["1099.511627783"]]


class TestLadder:
    def test_nothing(self):
        assert ladder([]) == "(no frames)"

    def test_arrows_fates_and_the_mark(self):
        lines = ladder(TALK, around=TALK[1]).splitlines()
        assert lines[0] == "frames 1 to 4 of 4, milliseconds from 0.000000 s"
        assert lines[1].split() == ["ms", "guest0", "user0", "guest1", "hub0port0"]
        rows = [line.split("  ")[0] for line in lines[2:]]
        assert rows == ["", ">>", "", ""]
        assert "0.000  |--------->|" in lines[2]
        assert "1.000  |<~~~~~~~~~|" in lines[3]
        assert lines[3].endswith("[delay 5.000 ms]")
        assert "2.000  |~~~~x     |" in lines[4]
        assert lines[4].endswith("[drop]")
        assert "|          |          |--------->|" in lines[5]
        assert "10.0.2.3" in lines[5]

    def test_fits_a_terminal(self):
        talk = [record(number, f"a-very-long-port-name-{number}", fate="delay 5000000, flip 77") for number in range(6)]
        assert max(map(len, ladder(talk).splitlines())) <= 120

    @pytest.mark.parametrize(("at", "span"), [(0, "1 to 3"), (10, "9 to 13"), (19, "18 to 20")])
    def test_a_window_around_a_frame(self, at, span):
        talk = [record(number) for number in range(20)]
        assert ladder(talk, talk[at], before=2, after=2).startswith(f"frames {span} of 20")

    def test_of_frames_that_look_the_same_the_one_in_question_is_marked(self):
        talk = [record(0), record(0), record(0)]
        assert [line.startswith(">>") for line in ladder(talk, talk[1]).splitlines()[2:]] == [False, True, False]

    def test_without_a_frame_in_question_the_last_are_shown(self):
        talk = [record(number) for number in range(20)]
        text = ladder(talk, before=2, after=2)
        assert text.startswith("frames 16 to 20 of 20, milliseconds from 0.015000 s")
        assert ">>" not in text

    def test_a_port_that_hears_itself(self):
        assert "same" in ladder([record(0, "same", "same")])
