"""Loss: the retransmission timer, fast retransmit, NewReno and SACK recovery, seen from the sender's end."""

from __future__ import annotations

import errno
from dataclasses import replace

from tcp_pipe import MS, SECOND, Script

from netemu.stack.tcp import State, TcpConfig
from netemu.wire.tcp import ACK, FIN, PSH, SYN, Tcp, TcpOptions

PLAIN = TcpConfig(timestamps=False, window_scale=None, sack=False)
WITH_SACK = replace(PLAIN, sack=True)
MSS = TcpOptions(mss=1000)
MSS_SACK = TcpOptions(mss=1000, sack_permitted=True)
FIRST = 1001  # the number of our first octet


def sender(config: TcpConfig = PLAIN, options: TcpOptions = MSS, segments: int = 10) -> tuple[Script, list[Tcp]]:
    """A connection that was given `segments` segments of 1000 octets and has sent them, at most its initial window of ten."""
    script = Script(config).established(options=options)
    return script, script.write(bytes(range(250)) * (segments * 4))


def numbers(segments: list[Tcp]) -> list[int]:
    """Which segments these are, of 1000 octets each, counted from 0."""
    return [(segment.sequence - FIRST) // 1000 for segment in segments if segment.payload]


def ack(script: Script, upto: int, *blocks: tuple[int, int]) -> list[int]:
    """Acknowledge the first `upto` segments, and SACK whole segments; what is sent then."""
    sack = tuple((FIRST + 1000 * left, FIRST + 1000 * right) for left, right in blocks)
    return numbers(script.give(ACK, 5001, FIRST + 1000 * upto, options=TcpOptions(sack=sack)))


class TestTimer:
    def test_backoff_and_giving_up(self):
        """RFC 6298 5.4 to 5.6; R2 of RFC 9293 3.8.3."""
        script, times = Script(replace(PLAIN, retries=8)).established(), []
        script.write(b"x")
        start = script.now
        while script.state is State.ESTABLISHED:
            script.now = script.connection.deadline()
            script.connection.expire(script.now)
            times += [(script.now - start) // SECOND for _ in script.sent()]
        assert times == [1, 3, 7, 15, 31, 63, 123, 183]
        assert script.connection.error == errno.ETIMEDOUT
        assert script.connection.counters["retransmissions"] == 8

    def test_a_timeout_goes_back_and_starts_slowly(self):
        script, sent = sender(segments=30)
        assert numbers(sent) == list(range(10))
        assert numbers(script.wait(SECOND)) == [0]
        assert script.connection.congestion_window == 1000
        assert script.connection.slow_start_threshold == 5000
        assert numbers(script.wait(2 * SECOND)) == [0]
        assert script.connection.slow_start_threshold == 5000  # RFC 5681 3.1: held for the second time
        assert ack(script, 1) == [1, 2]
        assert ack(script, 2) == [3, 4]
        assert script.connection.congestion_window == 3000
        assert ack(script, 10) == [10, 11, 12, 13]

    def test_timeout_with_sack_skips_what_arrived(self):
        script, _ = sender(WITH_SACK, MSS_SACK)
        script.wait(SECOND)
        assert ack(script, 1, (2, 4)) == [1, 4]
        assert ack(script, 4) == [5, 6]

    def test_karn(self):
        """RFC 6298 3: a retransmitted segment gives no sample, and the backoff stays."""
        script, _ = sender(segments=1)
        script.wait(SECOND)
        before = script.connection.smoothed_rtt_ns
        assert script.connection.retransmission_timeout_ns == 2 * SECOND
        script.now += 500 * MS
        ack(script, 1)
        assert script.connection.smoothed_rtt_ns == before
        assert script.connection.retransmission_timeout_ns == 2 * SECOND

    def test_karn_after_a_fast_retransmit(self):
        script, _ = sender(segments=10)
        before = script.connection.smoothed_rtt_ns
        for _ in range(3):
            ack(script, 0)
        script.now += 900 * MS
        ack(script, 10)
        assert script.connection.smoothed_rtt_ns == before

    def test_karn_for_a_repeated_syn_ack(self):
        script = Script(PLAIN)
        script.connection.open_passive(script.segment(SYN, 70), script.now)
        script.sent()
        script.now += 500 * MS
        assert len(script.give(SYN, 70)) == 1
        script.give(ACK, 71, FIRST)
        assert script.connection.smoothed_rtt_ns is None

    def test_a_lost_syn_means_one_segment_and_three_seconds(self):
        """RFC 5681 3.1, RFC 6298 5.7."""
        script = Script(PLAIN)
        script.connection.open_active(script.now)
        script.wait(SECOND)
        script.give(SYN | ACK, 5000, FIRST, options=MSS)
        assert script.connection.retransmission_timeout_ns == 3 * SECOND
        assert numbers(script.write(bytes(5000))) == [0]

    def test_an_idle_connection_starts_again_from_the_initial_window(self):
        """RFC 5681 4.1."""
        script, _ = sender(segments=40)
        for acknowledged in range(2, 42, 2):
            ack(script, acknowledged)
        assert script.connection.counters["duplicate_acks"] == 0
        assert script.connection.congestion_window > 20_000
        script.now += 500 * MS
        assert len(script.write(bytes(15_000))) == 15
        ack(script, 55)
        script.now += 1500 * MS
        assert len(script.write(bytes(15_000))) == 10


class TestNewReno:
    def test_fast_retransmit_on_the_third_duplicate(self):
        """RFC 5681 3.2; the first two let a new segment out each (RFC 3042)."""
        script, _ = sender(segments=20)
        assert ack(script, 0) == [10]
        assert ack(script, 0) == [11]
        assert ack(script, 0) == [0]
        assert script.connection.counters["fast_retransmits"] == 1
        assert script.connection.slow_start_threshold == script.connection.congestion_window == 6000

    def test_partial_acknowledgments_retransmit_the_next_hole(self):
        """RFC 6582 3.2: 0 and 4 are lost out of ten."""
        script, _ = sender(segments=10)
        assert [ack(script, 0) for _ in range(3)][-1] == [0]
        for _ in range(5):
            ack(script, 0)
        assert ack(script, 4)[0] == 4
        ack(script, 30)
        assert script.connection.counters["retransmissions"] == 2
        assert script.connection.counters["timeouts"] == 0

    def test_a_partial_acknowledgment_needs_no_room(self):
        """RFC 6582 3.2 step 3: retransmit the first unacknowledged segment, whatever the window."""
        script, _ = sender(segments=10)
        for _ in range(3):
            ack(script, 0)
        assert ack(script, 1) == [1]
        assert ack(script, 2) == [2]

    def test_a_partial_acknowledgment_deflates_the_window(self):
        """RFC 6582 3.2 step 3: by what it acknowledges, less one segment."""
        script, _ = sender(segments=20)
        assert [ack(script, 0) for _ in range(8)] == [[10], [11], [0], [], [], [], [12], [13]]
        assert ack(script, 4) == [4, 14]

    def test_recovery_ends_with_half_the_window(self):
        script, _ = sender(segments=10)
        for _ in range(9):
            ack(script, 0)
        ack(script, 10)
        assert script.connection.congestion_window == script.connection.slow_start_threshold == 5000

    def test_echoes_after_recovery_retransmit_nothing(self):
        """RFC 6582 3.2 step 2: duplicates of the ACK that ended a recovery."""
        script, _ = sender(segments=10)
        for _ in range(3):
            ack(script, 0)
        script.write(bytes(20_000))
        for _ in range(6):
            ack(script, 10)
        assert script.connection.counters["fast_retransmits"] == 1
        assert script.connection.counters["retransmissions"] == 1

    def test_a_window_update_is_no_duplicate(self):
        script, _ = sender(segments=10)
        for window in (60_000, 50_000, 40_000, 30_000, 20_000):
            script.give(ACK, 5001, FIRST, window=window)
        assert script.connection.counters["fast_retransmits"] == 0

    def test_text_is_no_duplicate(self):
        script, _ = sender(segments=10)
        for count in range(5):
            script.give(ACK, 5001 + count, FIRST, b"x")
        assert script.connection.counters["fast_retransmits"] == 0


class TestSack:
    def test_holes_are_filled_each_once(self):
        """RFC 6675: 0, 3 and 5 are lost out of ten."""
        script, _ = sender(WITH_SACK, MSS_SACK)
        sent = ack(script, 0, (1, 2)) + ack(script, 0, (1, 3)) + ack(script, 0, (4, 5), (1, 3))
        assert 0 in sent
        sent += ack(script, 0, (6, 7), (4, 5), (1, 3))
        sent += ack(script, 0, (6, 8), (4, 5), (1, 3))
        sent += ack(script, 0, (6, 9), (4, 5), (1, 3))
        sent += ack(script, 0, (6, 10), (4, 5), (1, 3))
        sent += ack(script, 3, (6, 10), (4, 5))
        assert sorted(number for number in sent if number < 10) == [0, 3, 5]
        assert script.connection.counters["timeouts"] == 0

    def test_duplicates_without_news_do_not_count(self):
        script, _ = sender(WITH_SACK, MSS_SACK)
        for _ in range(10):
            ack(script, 0, (1, 2))
        assert script.connection.counters["fast_retransmits"] == 0

    def test_one_block_of_three_segments_is_enough(self):
        """IsLost: more than two segments above (RFC 6675 4), even in a single ACK."""
        script, _ = sender(WITH_SACK, MSS_SACK)
        assert ack(script, 0, (1, 4))[0] == 0

    def test_absurd_blocks_are_ignored(self):
        script, _ = sender(WITH_SACK, MSS_SACK)
        for blocks in (((4, 1),), ((-5, -2),), ((-2, 3),), ((5, 5000),), ((3, 3),)):
            ack(script, 0, *blocks)
        assert script.connection.counters["duplicate_acks"] == 0

    def test_the_window_halves_once(self):
        script, _ = sender(WITH_SACK, MSS_SACK)
        for right in range(2, 11):
            ack(script, 0, (1, right))
        assert script.connection.slow_start_threshold == 5000

    def test_not_negotiated_not_believed(self):
        script, _ = sender(PLAIN, MSS_SACK)
        ack(script, 0, (1, 9))
        assert script.connection.counters["fast_retransmits"] == 0


class TestWindow:
    def test_zero_window_is_probed_for_ever_while_the_peer_answers(self):
        """RFC 9293 3.8.6.1."""
        script = Script(replace(PLAIN, retries=3)).established(options=MSS, window=2000)
        script.write(bytes(5000))
        script.give(ACK, 5001, FIRST + 2000, window=0)
        times, start = [], script.now
        while len(times) < 20:
            script.now = script.connection.deadline()
            script.connection.expire(script.now)
            (probe,) = script.sent()
            assert (probe.sequence, len(probe.payload)) == (FIRST + 2000, 1)
            times.append((script.now - start) // SECOND)
            script.give(ACK, 5001, FIRST + 2000, window=0)
        assert times[:8] == [1, 3, 7, 15, 31, 63, 123, 183]
        assert script.state is State.ESTABLISHED
        assert [len(segment.payload) for segment in script.give(ACK, 5001, FIRST + 2000)] == [1000, 1000, 1000]
        assert script.connection.counters["window_probes"] == 20

    def test_an_accepted_probe_counts_as_sent(self):
        script = Script(PLAIN).established(options=MSS, window=1000)
        script.write(bytes(range(250)) * 8)
        script.give(ACK, 5001, FIRST + 1000, window=0)
        script.wait(SECOND)
        (rest,) = script.give(ACK, 5001, FIRST + 1001)
        assert (rest.sequence, rest.payload) == (FIRST + 1001, (bytes(range(250)) * 8)[1001:])

    def test_no_answer_to_probes_is_the_end(self):
        script = Script(replace(PLAIN, retries=3)).established(options=MSS, window=0)
        script.write(b"x")
        script.wait(100 * SECOND)
        assert script.connection.error == errno.ETIMEDOUT

    def test_fin_against_a_closed_window(self):
        script = Script(replace(PLAIN, retries=3)).established(options=MSS, window=0)
        script.connection.close(script.now)
        assert script.sent() == []
        for _ in range(10):
            script.now = script.connection.deadline()
            script.connection.expire(script.now)
            assert [segment.flags for segment in script.sent()] == [FIN | ACK]
            script.give(ACK, 5001, FIRST, window=0)
        assert script.state is State.FIN_WAIT_1
        script.give(ACK, 5001, FIRST + 1)
        assert script.state is State.FIN_WAIT_2

    def test_silly_windows_are_not_filled_at_once(self):
        """RFC 9293 3.8.6.2.1: neither a full segment nor half of the largest window; then the override timeout."""
        script = Script(PLAIN).established(options=MSS, window=8000)
        script.write(bytes(20_000))
        assert script.give(ACK, 5001, FIRST + 8000, window=300) == []
        assert [len(segment.payload) for segment in script.wait(SECOND)] == [300]

    def test_half_of_a_small_window_is_filled(self):
        script = Script(PLAIN).established(options=MSS, window=400)
        assert [len(segment.payload) for segment in script.write(bytes(2000))] == [400]
        assert [len(segment.payload) for segment in script.give(ACK, 5001, FIRST + 400, window=200)] == [200]

    def test_a_shrunk_window_stops_new_data_only(self):
        """RFC 9293 3.8.6: the sender must be prepared; RFC 7323 2.4 (4): what was sent may be sent again."""
        script, _ = sender(segments=10)
        script.give(ACK, 5001, FIRST, window=100)
        assert script.connection.in_flight == 10_000
        assert numbers(script.wait(SECOND)) == [0]

    def test_retransmissions_keep_to_the_window_but_for_the_first(self):
        """RFC 7323 2.4 (5)."""
        script, _ = sender(segments=10)
        script.wait(SECOND)
        sent = script.give(ACK, 5001, FIRST + 1000, window=1500)
        assert [(segment.sequence - FIRST, len(segment.payload)) for segment in sent] == [(1000, 1000), (2000, 500)]

    def test_older_segments_do_not_update_the_window(self):
        script = Script(PLAIN).established(options=MSS, window=5000)
        script.give(ACK, 5001, FIRST, b"abc", window=4000)
        script.give(ACK, 5001, FIRST, b"abc", window=9)
        assert script.connection.send_window == 4000

    def test_nagle(self):
        """RFC 9293 3.7.4."""
        script = Script(replace(PLAIN, nagle=True)).established(options=MSS)
        assert len(script.write(b"a")) == 1
        assert script.write(b"b") == []
        assert script.write(b"c") == []
        assert [segment.payload for segment in script.give(ACK, 5001, FIRST + 1)] == [b"bc"]
        assert [len(segment.payload) for segment in script.write(bytes(2500))] == [1000, 1000]
        script.connection.close(script.now)
        assert [(segment.flags, len(segment.payload)) for segment in script.sent()] == [(FIN | PSH | ACK, 500)]

    def test_without_nagle_small_writes_leave_at_once(self):
        script = Script(PLAIN).established(options=MSS)
        assert [len(script.write(b"a")) for _ in range(5)] == [1] * 5


class TestSegments:
    def test_the_default_mss_is_536(self):
        script = Script(PLAIN).established()
        assert max(len(segment.payload) for segment in script.write(bytes(5000))) == 536

    def test_timestamps_take_their_room(self):
        script = Script(TcpConfig()).established(options=TcpOptions(mss=1000, timestamps=(9, 0)))
        (first, *_) = script.write(bytes(5000))
        assert len(first.payload) == 988
        assert first.options.timestamps is not None

    def test_sack_blocks_take_their_room(self):
        script = Script(WITH_SACK).established(options=MSS_SACK)
        script.give(ACK, 5101, FIRST, b"out of order")
        (first, *_) = script.write(bytes(5000))
        assert first.options.sack == ((5101, 5113),)
        assert len(first.payload) + len(first.options.pack()) == 1000

    def test_offloaded_segments_are_whole_frames(self):
        script = Script(replace(PLAIN, segment_limit=65535, initial_window=100)).established(options=TcpOptions(mss=1460))
        sizes = [len(segment.payload) for segment in script.write(bytes(60_000))]
        assert sizes[0] == 14_600  # the initial window in one piece
        assert script.connection.send_mss == 1460

    def test_a_narrow_path_gets_what_is_outstanding_again_in_smaller_segments(self):
        script, sent = sender(segments=30)
        assert numbers(sent) == list(range(10))
        script.connection.path_mss_lowered(400, FIRST, script.now)
        again = script.sent()
        assert [(segment.sequence, len(segment.payload)) for segment in again] == [(FIRST, 400)]
        assert (script.connection.send_mss, script.connection.counters["path_mss_lowered"]) == (400, 1)
        following = script.give(ACK, 5001, FIRST + 400)
        assert [(segment.sequence, len(segment.payload)) for segment in following] == [(FIRST + 400, 400), (FIRST + 800, 400)]
        assert script.connection.counters["timeouts"] == 0

    def test_a_path_is_not_believed_to_be_narrow_without_need(self):
        script, _ = sender(segments=30)
        for mss, sequence in ((400, FIRST - 1), (400, FIRST + 10_000), (1000, FIRST), (5000, FIRST)):
            script.connection.path_mss_lowered(mss, sequence, script.now)
        assert script.connection.send_mss == 1000
        assert script.sent() == []
        script.connection.path_mss_lowered(1, FIRST, script.now)
        assert script.connection.send_mss == 48

    def test_push_marks_the_end_of_what_there_is(self):
        script = Script(PLAIN).established(options=MSS)
        assert [segment.flags & PSH for segment in script.write(bytes(2500))] == [0, 0, PSH]


class TestKeepAlive:
    CONFIG = replace(PLAIN, keepalive_idle_ns=100 * SECOND, keepalive_interval_ns=10 * SECOND, keepalive_count=3)

    def test_a_dead_peer(self):
        script = Script(self.CONFIG).established()
        probes = script.wait(129 * SECOND)
        assert [(probe.flags, probe.sequence, probe.payload) for probe in probes] == [(ACK, FIRST - 1, b"")] * 3
        assert script.state is State.ESTABLISHED
        script.wait(SECOND)
        assert (script.state, script.connection.error) == (State.CLOSED, errno.ETIMEDOUT)

    def test_a_living_peer(self):
        script = Script(self.CONFIG).established()
        for _ in range(10):
            assert len(script.wait(105 * SECOND)) == 1
            script.give(ACK, 5001, FIRST)
        assert script.state is State.ESTABLISHED

    def test_no_probe_while_data_is_outstanding(self):
        script = Script(self.CONFIG).established()
        script.write(b"x")
        script.wait(150 * SECOND)
        assert script.connection.counters["keepalive_probes"] == 0
        assert script.state is State.ESTABLISHED

    def test_off_by_default(self):
        script = Script(PLAIN).established()
        assert script.connection.deadline() is None

    def test_a_probe_is_answered(self):
        script = Script(PLAIN).established()
        (answer,) = script.give(ACK, 5000, FIRST)
        assert (answer.sequence, answer.acknowledgment) == (FIRST, 5001)
