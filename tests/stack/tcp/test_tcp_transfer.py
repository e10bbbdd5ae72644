"""Whole transfers between two connections, over wires that lose, double, delay and reorder."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tcp_pipe import MS, SECOND, A, B, Host, Pipe, transfer

from netemu.stack.tcp import State, TcpConfig
from netemu.wire.tcp import Tcp

FULL = TcpConfig()
OLD = TcpConfig(window_scale=None, sack=False, timestamps=False, nagle=True)


def hosts(config: TcpConfig = FULL, other: TcpConfig | None = None, isn: int = 1000, **more: int) -> tuple[Host, Host]:
    return Host(config, A, B, isn, **more), Host(other or config, B, A, (isn + 77) & 0xFFFFFFFF, **more)


def lossy(seed: int, share: float):
    """A wire that loses `share` of the segments, doubles a third and reorders two thirds as many."""
    random = Random(seed)

    def fault(sender: str, number: int, segment: Tcp) -> list[int]:
        draw = random.random() / share
        if draw < 1:
            return []
        if draw < 1.3:
            return [0, random.randrange(30 * MS)]
        if draw < 2:
            return [random.randrange(30 * MS)]
        return [0]

    return fault


@pytest.mark.parametrize("config", [FULL, OLD, replace(FULL, sack=False), replace(FULL, timestamps=False)])
@pytest.mark.parametrize("isn", [0, 0xFFFFFF00, 0xFFFFFFFF, 0x7FFFFFF0])
def test_both_ways_over_a_clean_wire(config, isn):
    data = Random(1).randbytes(200_000)
    pipe = Pipe(*hosts(config, isn=isn))
    transfer(pipe, data, data[::-1])
    assert pipe.a.connection.counters["retransmissions"] == pipe.b.connection.counters["retransmissions"] == 0


@pytest.mark.parametrize("config", [FULL, OLD, replace(FULL, sack=False), replace(FULL, segment_limit=65535)])
def test_both_ways_over_a_bad_wire(config):
    data = Random(2).randbytes(300_000)
    pipe = Pipe(*hosts(config, isn=0xFFFFFF00), fault=lossy(3, 0.1))
    transfer(pipe, data, data[::-1])
    assert pipe.a.connection.counters["retransmissions"] > 1


def test_ten_megabytes_through_ten_per_cent_loss():
    data = Random(4).randbytes(10_000_000)
    pipe = Pipe(*hosts(), fault=lossy(5, 0.1))
    pipe.keep_log = False
    transfer(pipe, data)
    assert pipe.a.connection.counters["fast_retransmits"] > 50


def test_a_large_window_over_a_long_fat_wire():
    """Thousands of segments in flight, one in a hundred lost: the scoreboard must not be walked for each ACK."""
    data = Random(6).randbytes(10_000_000)
    a, b = hosts(send_capacity=1 << 23, receive_capacity=1 << 23)
    pipe = Pipe(a, b, delay=500 * MS, fault=lambda sender, number, segment: [] if number % 101 == 100 else [0])
    pipe.keep_log = False
    transfer(pipe, data)


def test_the_wire_may_be_slow_to_read():
    """The receiver reads now and then: the window closes and opens."""
    data = Random(7).randbytes(100_000)
    a, b = hosts(receive_capacity=4000)
    b.reading = False
    pipe = Pipe(a, b)
    a.to_send, a.close_when_sent = memoryview(data), True
    a.connection.open_active(pipe.now)
    for turn in range(400):
        pipe.run(duration=(turn % 7) * SECOND // 2)
        b.reading = True
        pipe.flush()
        b.reading = False
    assert b.received == data
    assert a.connection.counters["window_probes"] > 0
    assert b.connection.counters["sink_refusals"] == 0


def test_the_peers_mss_is_honoured():
    pipe = Pipe(*hosts(FULL, replace(FULL, mss=536)))
    transfer(pipe, bytes(50_000), bytes(50_000))
    assert max(len(segment.payload) for segment in pipe.sent_by("a")) == 524
    assert max(len(segment.payload) for segment in pipe.sent_by("b")) == 524


def test_more_than_64_kilobytes_in_flight_by_window_scale():
    a, b = hosts(send_capacity=1 << 20, receive_capacity=1 << 20)
    pipe, most = Pipe(a, b, delay=100 * MS), 0
    a.to_send, a.close_when_sent, b.close_when_sent = memoryview(bytes(4_000_000)), True, True
    a.connection.open_active(pipe.now)

    def watch() -> bool:
        nonlocal most
        most = max(most, a.connection.in_flight)
        return False

    pipe.run(until=watch)
    assert most > 500_000
    assert len(b.received) == 4_000_000


FAULTS = st.dictionaries(
    st.tuples(st.sampled_from("ab"), st.integers(0, 60)),
    st.lists(st.integers(0, 200).map(lambda count: count * MS), max_size=3),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(
    faults=FAULTS,
    there=st.integers(0, 60_000),
    back=st.integers(0, 60_000),
    isn=st.sampled_from([0, 0xFFFFF000, 0x7FFFF000]),
    config=st.sampled_from([FULL, OLD, replace(FULL, sack=False), replace(FULL, timestamps=False, nagle=True)]),
    room=st.sampled_from([700, 3000, 1 << 16]),
)
def test_no_schedule_of_faults_corrupts_the_stream(faults, there, back, isn, config, room):
    """Each entry says what becomes of one segment: lost, or delivered at these delays."""
    data = Random(8).randbytes(60_000)
    a, b = hosts(config if room > 128 else OLD, isn=isn, receive_capacity=room)
    pipe = Pipe(a, b, fault=lambda sender, number, segment: faults.get((sender, number), [0]))
    a.to_send, b.to_send = memoryview(data[:there]), memoryview(data[60_000 - back :])
    a.close_when_sent = b.close_when_sent = True
    a.connection.open_active(pipe.now)
    pipe.run(duration=10**15)
    assert b.received == data[:there]
    assert a.received == data[60_000 - back :]
    assert a.state is State.CLOSED
    assert a.connection.error == 0


def test_the_same_schedule_gives_the_same_segments():
    logs = []
    for _ in range(2):
        pipe = Pipe(*hosts(), fault=lossy(9, 0.2))
        transfer(pipe, bytes(50_000))
        logs.append(pipe.log)
    assert logs[0] == logs[1]
