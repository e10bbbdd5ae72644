from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.errors import LocalError
from netemu.net.clock import MILLISECOND, SECOND
from netemu.net.faults import REORDER_HOLD, Fault, FaultSchedule, flip_bit
from netemu.net.link import Link
from netemu.net.loop import VirtualLoop
from netemu.net.port import Port


class End:
    """A port that notes what arrives, and when."""

    def __init__(self, loop, name):
        self.loop = loop
        self.arrivals = []
        self.busy = False
        self.port = Port(loop, name, self.receive)

    def receive(self, frame, header):
        if self.busy:
            return False
        self.arrivals.append((self.loop.now(), frame))
        return True

    @property
    def frames(self):
        return [frame for _, frame in self.arrivals]


class Bench:
    def __init__(self, **options):
        self.loop = VirtualLoop()
        self.a, self.b = End(self.loop, "a"), End(self.loop, "b")
        self.link = Link(self.loop, "cable", self.a.port, self.b.port, **options)
        self.records = []
        self.link.taps.append(self.records.append)

    def send(self, *frames):
        for frame in frames:
            self.a.port.send(frame)
        self.loop.run_for(SECOND)
        return self.b.frames


def test_both_directions_carry():
    bench = Bench()
    bench.a.port.send(b"to b")
    bench.b.port.send(b"to a")
    bench.loop.run_for(0)
    assert (bench.b.frames, bench.a.frames) == ([b"to b"], [b"to a"])


def test_taps_see_every_frame_as_it_enters():
    bench = Bench(delay=5)
    bench.link.set_faults(forward=[Fault(1, "drop"), Fault(2, "delay", 7), Fault(2, "flip", 0)])
    bench.send(b"0", b"1", b"2")
    bench.b.port.send(b"back")
    bench.loop.run_for(1)
    seen = [(record.number, record.source, record.destination, record.frame, record.fate) for record in bench.records]
    assert seen == [
        (0, "a", "b", b"0", "delivered"),
        (1, "a", "b", b"1", "drop"),
        (2, "a", "b", b"2", "delay 7, flip"),
        (0, "b", "a", b"back", "delivered"),
    ]
    assert {(record.link, record.time) for record in bench.records} == {("cable", 0), ("cable", SECOND)}


def test_delay_is_one_way():
    bench = Bench(delay=30 * MILLISECOND)
    bench.send(b"x")
    assert bench.b.arrivals == [(30 * MILLISECOND, b"x")]


def test_rate_serialises_one_frame_after_the_other():
    bench = Bench(rate=8_000, delay=MILLISECOND)  # an octet takes a millisecond
    bench.send(b"12345", b"678")
    assert bench.b.arrivals == [(6 * MILLISECOND, b"12345"), (9 * MILLISECOND, b"678")]


def test_the_line_rests_when_nothing_is_sent():
    bench = Bench(rate=8_000)
    bench.send(b"1")
    bench.send(b"2")
    assert [time for time, _ in bench.b.arrivals] == [MILLISECOND, SECOND + MILLISECOND]


@pytest.mark.parametrize("options", [{}, {"rate": 8_000_000}, {"delay": 1000}])
def test_flow_control_passes_through(options):
    bench = Bench(**options)
    bench.b.busy = True
    sent = 0
    while not bench.a.port.busy:
        assert sent < 5
        bench.a.port.send(bytes([sent]))
        sent += 1
        bench.loop.run_for(MILLISECOND)
    assert bench.a.port.counters["dropped-full"] == 0
    bench.b.busy = False
    bench.b.port.flush()
    bench.loop.run_for(SECOND)
    assert bench.b.frames == [bytes([number]) for number in range(sent)]
    assert not bench.a.port.busy


@pytest.mark.parametrize("bad", [{"delay": -1}, {"rate": 0}, {"rate": -5}])
def test_a_cable_has_sane_numbers(bad):
    with pytest.raises(LocalError, match="delay is zero or more, rate more than zero"):
        Bench(**bad)


def test_a_cut_cable_drops_and_both_ports_hear_of_it():
    bench = Bench(delay=MILLISECOND)
    heard = []
    bench.a.port.on_link = lambda up: heard.append(("a", up))
    bench.b.port.on_link = lambda up: heard.append(("b", up))
    bench.a.port.send(b"in flight")
    bench.loop.run_for(0)
    bench.link.set_link(up=False)
    assert bench.send(b"lost") == []
    assert bench.a.port.counters["dropped-link-down"] == 1
    assert sorted(heard) == [("a", False), ("b", False)]
    bench.link.set_link(up=True)
    assert bench.send(b"again") == [b"again"]


FAULTS = [
    ([Fault(0, "drop")], [b"\x01", b"\x02"]),
    ([Fault(1, "duplicate")], [b"\x00", b"\x01", b"\x01", b"\x02"]),
    ([Fault(1, "duplicate", 2)], [b"\x00", b"\x01", b"\x01", b"\x01", b"\x02"]),
    ([Fault(0, "flip", 7)], [b"\x01", b"\x01", b"\x02"]),
    ([Fault(2, "truncate", 0)], [b"\x00", b"\x01", b""]),
    ([Fault(0, "delay", 5)], [b"\x01", b"\x02", b"\x00"]),
    ([Fault(0, "reorder", 1)], [b"\x01", b"\x00", b"\x02"]),
    ([Fault(0, "reorder", 2)], [b"\x01", b"\x02", b"\x00"]),
    ([Fault(0, "flip", 7), Fault(0, "duplicate")], [b"\x01", b"\x01", b"\x01", b"\x02"]),
]


@pytest.mark.parametrize(("faults", "arrived"), FAULTS, ids=lambda value: repr(value) if isinstance(value[0], Fault) else "")
def test_a_fault_does_what_its_name_says(faults, arrived):
    bench = Bench()
    bench.link.set_faults(forward=faults)
    assert bench.send(b"\x00", b"\x01", b"\x02") == arrived


def test_a_frame_held_back_for_nobody_goes_on():
    bench = Bench()
    bench.link.set_faults(forward=[Fault(0, "reorder", 3)])
    bench.send(b"alone")
    assert bench.b.arrivals == [(REORDER_HOLD, b"alone")]


def test_faults_are_of_one_direction():
    bench = Bench()
    bench.link.set_faults(backward=[Fault(0, "drop")])
    bench.send(b"question")
    bench.b.port.send(b"answer")
    bench.loop.run_for(0)
    assert (bench.b.frames, bench.a.frames) == ([b"question"], [])


def test_frames_are_counted_from_when_the_faults_are_set():
    bench = Bench()
    bench.send(b"before")
    bench.link.set_faults(forward=[Fault(0, "drop")])
    bench.send(b"first", b"second")
    assert bench.b.frames == [b"before", b"second"]


def test_delays_of_one_frame_add_up():
    bench = Bench()
    bench.link.set_faults(forward=[Fault(0, "delay", 5), Fault(0, "delay", 7)])
    bench.send(b"x")
    assert bench.b.arrivals == [(12, b"x")]


COUNTING = st.builds(
    Fault,
    st.integers(0, 9),
    st.sampled_from(["drop", "duplicate", "delay", "flip", "truncate", "reorder"]),
    st.integers(0, 12),
)


@given(st.lists(COUNTING, max_size=12, unique_by=lambda fault: fault.frame))
@settings(max_examples=150, deadline=None)
def test_a_schedule_accounts_for_every_frame(faults):
    bench = Bench()
    bench.link.set_faults(forward=faults)
    arrived = bench.send(*(bytes([number]) * 4 for number in range(10)))
    drops = sum(fault.action == "drop" for fault in faults)
    extra = sum(max(1, fault.value) for fault in faults if fault.action == "duplicate")
    assert len(arrived) == 10 - drops + extra
    assert len(bench.records) == 10


@given(st.lists(COUNTING, max_size=12))
@settings(max_examples=100, deadline=None)
def test_one_schedule_gives_one_outcome(faults):
    def run():
        bench = Bench(delay=10, rate=1_000_000)
        bench.link.set_faults(forward=faults)
        bench.send(*(bytes([number]) for number in range(10)))
        return bench.b.arrivals, bench.records

    assert run() == run()


@given(COUNTING)
def test_a_fault_prints_as_python(fault):
    assert eval(repr(fault), {"Fault": Fault}) == fault
    schedule = FaultSchedule([fault])
    assert eval(repr(schedule), {"Fault": Fault, "FaultSchedule": FaultSchedule}).faults == schedule.faults


@pytest.mark.parametrize("bad", [(-1, "drop", 0), (0, "delay", -1), (0, "explode", 0)])
def test_a_bad_fault_is_refused(bad):
    with pytest.raises(LocalError):
        Fault(*bad)


@given(st.binary(min_size=1, max_size=20), st.integers(0, 1000))
def test_a_flip_is_one_bit_and_undoes_itself(frame, bit):
    flipped = flip_bit(frame, bit)
    assert (int.from_bytes(flipped) ^ int.from_bytes(frame)).bit_count() == 1
    assert flip_bit(flipped, bit) == frame


def test_an_empty_frame_has_no_bit_to_flip():
    assert flip_bit(b"", 3) == b""
