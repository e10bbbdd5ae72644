"""Sequence numbers, ranges, buffers, reassembly, the timer's arithmetic and the congestion window, each alone."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.errors import LocalError
from netemu.stack.tcp import ReceiveBuffer, SendBuffer, TcpConfig
from netemu.stack.tcp.congestion import CongestionControl
from netemu.stack.tcp.liveness import Throttle
from netemu.stack.tcp.negotiation import Agreement, offer, sack_length
from netemu.stack.tcp.ranges import RangeSet
from netemu.stack.tcp.reassembly import Reassembly
from netemu.stack.tcp.rtt import RttEstimator
from netemu.stack.tcp.scoreboard import Scoreboard
from netemu.stack.tcp.sequence import difference, unwrap, wrap
from netemu.wire.tcp import TcpOptions

MS = 1_000_000
SECOND = 1_000_000_000


@given(st.integers(0, 1 << 40), st.integers(-(1 << 30), 1 << 30))
def test_unwrap_finds_the_number_near_a_known_one(near, distance):
    assert unwrap(wrap(near + distance), near) == near + distance


def test_difference_goes_the_nearer_way_round():
    assert difference(5, 0xFFFFFFFB) == 10
    assert difference(0xFFFFFFFB, 5) == -10
    assert difference(7, 7) == 0


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12)), max_size=20), st.integers(0, 80))
def test_ranges_are_a_set_of_numbers(additions, edge):
    ranges, model = RangeSet(), set()
    for start, length in additions:
        fresh = set(range(start, start + length)) - model
        assert ranges.add(start, start + length) == len(fresh)
        model |= fresh
        assert ranges.total == len(model)
    listed = [ranges[index] for index in range(len(ranges))]
    assert all(left[1] < right[0] for left, right in pairwise(listed))
    assert {number for start, end in listed for number in range(start, end)} == model
    assert ranges.count_below(edge) == len([number for number in model if number < edge])
    for number in (edge, edge // 2):
        block = ranges.containing(number)
        assert (block is not None) == (number in model)
        gap = ranges.gap(number, number + 30)
        missing = [other for other in range(number, number + 30) if other not in model]
        assert (gap is None) == (not missing)
        if gap:
            assert gap[0] == missing[0]
            assert set(range(*gap)) <= set(missing)
            assert gap[1] == number + 30 or gap[1] in model
    ranges.discard_below(edge)
    model = {number for number in model if number >= edge}
    assert ranges.total == len(model) == ranges.count_below(1000)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=9), st.integers(0, 12)), max_size=40))
def test_buffers_keep_octets_in_order(actions):
    source, sink, model, taken = SendBuffer(16), ReceiveBuffer(16), b"", b""
    for action in actions:
        if isinstance(action, bytes):
            count = source.write(action)
            assert count == min(len(action), 16 - len(model))
            assert sink.offer(action) == count
            model += action[:count]
        else:
            copy = bytearray(action)
            assert source.read_into(1, memoryview(copy)) == max(min(action, len(model) - 1), 0)
            assert bytes(copy).startswith(model[1 : 1 + action])
            taken = sink.read(action)
            assert taken == model[:action]
            source.discard(len(taken))
            model = model[len(taken) :]
        assert source.available() == sink.available() == len(model)
        assert source.room == sink.room() == 16 - len(model)


def test_a_finished_buffer_takes_no_more():
    source = SendBuffer(4)
    source.finish()
    assert source.eof
    with pytest.raises(LocalError, match="after finish"):
        source.write(b"x")
    with pytest.raises(LocalError, match="0 octets"):
        ReceiveBuffer(0)


def test_a_receive_buffer_ends_when_everything_was_read():
    sink = ReceiveBuffer(4)
    sink.offer(b"ab")
    sink.finish()
    assert not sink.eof
    assert sink.read() == b"ab"
    assert sink.eof


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mss", 47),
        ("mss", 65536),
        ("window_scale", 15),
        ("delayed_ack_ns", 500 * MS),
        ("min_rto_ns", 61 * SECOND),
        ("keepalive_idle_ns", 0),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(field, value):
    with pytest.raises(LocalError, match=f"TcpConfig.{field} is {value}: give "):
        TcpConfig(**{field: value})


class TestReassembly:
    """The examples of RFC 2018 4: eight segments of 500 octets, left edge 5000."""

    def after(self, *arrivals: int, base: int = 5000) -> list[tuple[int, int]]:
        reassembly = Reassembly()
        for sequence in arrivals:
            reassembly.insert(base, sequence, memoryview(bytes(500)))
        return reassembly.blocks(base, 4)

    def test_case_2_first_segment_lost(self):
        assert self.after(5500) == [(5500, 6000)]
        assert self.after(5500, 6000) == [(5500, 6500)]
        assert self.after(*range(5500, 9000, 500)) == [(5500, 9000)]

    def test_case_3_every_second_segment_lost(self):
        assert self.after(6000, base=5500) == [(6000, 6500)]
        assert self.after(6000, 7000, base=5500) == [(7000, 7500), (6000, 6500)]
        assert self.after(6000, 7000, 8000, base=5500) == [(8000, 8500), (7000, 7500), (6000, 6500)]
        # The fourth segment now arrives: its block, grown, is the first one.
        assert self.after(6000, 7000, 8000, 6500, base=5500) == [(6000, 7500), (8000, 8500)]

    def test_case_3_second_segment_arrives(self):
        reassembly = Reassembly()
        for sequence in (6000, 7000, 8000, 6500):
            reassembly.insert(5500, sequence, memoryview(bytes(500)))
        reassembly.insert(5500, 5500, memoryview(bytes(500)))
        reassembly.discard_below(7500)
        assert reassembly.blocks(7500, 4) == [(8000, 8500)]

    def test_no_more_blocks_than_fit(self):
        reassembly = Reassembly()
        for sequence in range(100, 1000, 100):
            reassembly.insert(0, sequence, memoryview(b"x"))
        assert reassembly.blocks(0, 3) == [(900, 901), (800, 801), (700, 701)]

    @settings(max_examples=100, deadline=None)
    @given(st.integers(0, 1 << 34), st.integers(0, 1 << 32))
    def test_any_order_gives_the_stream_back(self, base, seed):
        random = Random(seed)
        data = random.randbytes(40_000)
        pieces = [(at, min(at + random.randrange(1, 3000), len(data))) for at in range(1, len(data), 701)]
        random.shuffle(pieces)
        reassembly = Reassembly()
        for start, end in pieces:
            reassembly.insert(base, base + start, memoryview(data)[start:end])
        assert len(reassembly._ring) <= 1 << 16
        reassembly.insert(base, base, memoryview(data)[:701])
        at, out = base, bytearray()
        while view := reassembly.front(at):
            out += view
            at += len(view)
            reassembly.discard_below(at)
        covered = max(end for start, end in pieces)
        assert out == data[: len(out)]
        assert len(out) >= 701
        assert len(out) == covered or len(reassembly) > 0
        if not reassembly:
            assert len(reassembly._ring) == 0


class TestRtt:
    def test_first_sample_and_the_next(self):
        """RFC 6298 2.2 and 2.3, in numbers."""
        rtt = RttEstimator(TcpConfig())
        assert rtt.rto == SECOND
        rtt.sample(2000 * MS)
        assert (rtt.smoothed, rtt.variation, rtt.rto) == (2000 * MS, 1000 * MS, 6000 * MS)
        rtt.sample(1200 * MS)
        assert rtt.variation == 1000 * MS * 3 // 4 + 800 * MS // 4
        assert rtt.smoothed == 2000 * MS * 7 // 8 + 1200 * MS // 8
        assert rtt.rto == rtt.smoothed + 4 * rtt.variation

    def test_never_less_than_a_second(self):
        rtt = RttEstimator(TcpConfig())
        rtt.sample(1 * MS)
        assert rtt.rto == SECOND

    def test_backoff_doubles_until_the_maximum_and_ends_with_a_sample(self):
        rtt = RttEstimator(TcpConfig())
        seen = []
        for _ in range(8):
            rtt.back_off()
            seen.append(rtt.rto // SECOND)
        assert seen == [2, 4, 8, 16, 32, 60, 60, 60]
        rtt.sample(500 * MS)
        assert rtt.rto == 1500 * MS

    def test_many_samples_a_round_trip_weigh_less(self):
        once, often = RttEstimator(TcpConfig()), RttEstimator(TcpConfig())
        for rtt, count in ((once, 1), (often, 10)):
            rtt.sample(100 * MS)
            for _ in range(count):
                rtt.sample(200 * MS, count)
        assert abs(once.smoothed - often.smoothed) < 2 * MS

    def test_three_seconds_after_a_lost_syn(self):
        rtt = RttEstimator(TcpConfig())
        rtt.back_off()
        rtt.syn_was_lost()
        assert rtt.rto == 3 * SECOND


class TestCongestion:
    def control(self, **more):
        return CongestionControl(1000, 10, 2000, syn_lost=False, **more)

    def test_initial_windows(self):
        assert self.control().window == 10_000
        assert CongestionControl(1460, 10, 2920, syn_lost=False).window == 14_600
        assert CongestionControl(9000, 10, 18_000, syn_lost=False).window == 18_000
        assert CongestionControl(1460, 10, 2920, syn_lost=True).window == 1460

    def test_slow_start_then_one_segment_a_window(self):
        control = self.control()
        control.acknowledged(1000, 10_000, after_timeout=False)
        control.acknowledged(9000, 10_000, after_timeout=False)
        assert control.window == 13_000
        control.threshold = 13_000
        for _ in range(13):
            control.acknowledged(1000, 13_000, after_timeout=False)
        assert control.window == 14_000

    def test_no_growth_when_the_window_is_not_the_limit(self):
        control = self.control()
        control.acknowledged(1000, 4000, after_timeout=False)
        assert control.window == 10_000

    def test_loss_halves_and_timeout_falls_to_one(self):
        control = self.control()
        control.loss_detected(10_000)
        assert (control.window, control.threshold) == (5000, 5000)
        control.timed_out(8000)
        assert (control.window, control.threshold) == (1000, 4000)
        control.timed_out(1000)
        assert control.threshold == 2000


class TestScoreboard:
    def test_three_ranges_or_more_than_two_segments_above_make_it_lost(self):
        board = Scoreboard(0, 1000)
        assert board.selectively_acknowledged(2000, 2100)
        assert board.selectively_acknowledged(3000, 3100)
        assert not board.front_lost
        assert not board.selectively_acknowledged(3000, 3050)
        assert board.selectively_acknowledged(4000, 4100)
        assert board.next_lost() == (0, 2000)
        other = Scoreboard(0, 1000)
        other.selectively_acknowledged(1000, 3000)
        assert not other.front_lost
        other.selectively_acknowledged(3000, 3001)
        assert other.next_lost() == (0, 1000)

    def test_pipe_counts_what_rfc_6675_counts(self):
        board = Scoreboard(0, 1000)
        assert board.pipe(10_000) == 10_000
        board.selectively_acknowledged(2000, 5000)  # [0, 2000) is lost
        assert board.pipe(10_000) == 10_000 - 3000 - 2000
        board.retransmitted(1000)
        assert board.pipe(10_000) == 10_000 - 3000 - 2000 + 1000
        assert board.next_lost() == (1000, 2000)
        board.acknowledged(1000)
        assert board.pipe(10_000) == 9000 - 3000 - 1000
        assert board.next_doubtful() == (1000, 2000)

    def test_a_timeout_forgets_sacks(self):
        board = Scoreboard(0, 1000)
        board.selectively_acknowledged(2000, 5000)
        board.timed_out(10_000)
        assert board.pipe(10_000) == 0
        assert board.next_lost() == (0, 10_000)

    def test_hostile_blocks_are_bounded(self):
        board = Scoreboard(0, 1000)
        taken = sum(board.selectively_acknowledged(at, at + 1) for at in range(0, 20_000, 2))
        assert taken == 4096


class TestNegotiation:
    def test_nothing_offered_nothing_agreed(self):
        agreement = Agreement.of(TcpConfig(), TcpOptions())
        assert agreement == Agreement(536, 0, 0, sack=False, timestamps=False)
        assert agreement.payload == 536

    def test_both_sides_decide(self):
        peer = TcpOptions(mss=9000, window_scale=20, sack_permitted=True, timestamps=(1, 0))
        agreement = Agreement.of(TcpConfig(), peer)
        assert agreement == Agreement(1460, 14, 7, sack=True, timestamps=True)
        assert agreement.payload == 1448
        quiet = TcpConfig(window_scale=None, sack=False, timestamps=False)
        assert Agreement.of(quiet, peer) == Agreement(1460, 0, 0, sack=False, timestamps=False)

    def test_a_tiny_mss_is_raised(self):
        assert Agreement.of(TcpConfig(), TcpOptions(mss=1)).send_mss == 48

    def test_an_answer_offers_only_what_the_syn_did(self):
        assert offer(TcpConfig(), TcpOptions(mss=536), (7, 0)) == TcpOptions(mss=1460)
        both = offer(TcpConfig(), None, (7, 0))
        assert both == TcpOptions(mss=1460, window_scale=7, sack_permitted=True, timestamps=(7, 0))

    @pytest.mark.parametrize("blocks", range(5))
    def test_the_reserve_is_what_the_option_takes(self, blocks):
        sack = tuple((number, number + 1) for number in range(0, 2 * blocks, 2))
        assert sack_length(blocks) == len(TcpOptions(sack=sack).pack())


def test_the_throttle_opens_again_after_its_interval():
    throttle = Throttle(2, 100)
    assert [throttle.allows(now) for now in (5, 6, 7, 104, 105, 106, 107)] == [True, True, False, False, True, True, False]
