"""Blind attackers (RFC 5961), old duplicates (RFC 7323 5) and plain rubbish."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tcp_pipe import SECOND, START, Host, Script

from netemu.stack.tcp import State, TcpConfig
from netemu.wire.tcp import ACK, FIN, RST, SYN, URG, Tcp, TcpOptions

PLAIN = TcpConfig(timestamps=False, window_scale=None, sack=False)
STAMPED = TcpConfig(window_scale=None, sack=False)
FIRST = 1001


def stamps(value: int, echo: int = 0) -> TcpOptions:
    return TcpOptions(timestamps=(value, echo))


class TestBlindAttacks:
    @pytest.mark.parametrize("sequence", [5002, 6000, 5001 + 200_000])
    def test_a_reset_in_the_window_is_challenged(self, sequence):
        """RFC 5961 3.2."""
        script = Script(TcpConfig(timestamps=False)).established(options=TcpOptions(window_scale=0))
        (challenge,) = script.give(RST, sequence)
        assert (challenge.flags, challenge.sequence, challenge.acknowledgment) == (ACK, FIRST, 5001)
        assert script.state is State.ESTABLISHED
        assert script.connection.counters["challenge_acks"] == 1

    @pytest.mark.parametrize("sequence", [5000, 1, 5002 + (1 << 18), 0xFFFFFFFF])
    def test_a_reset_outside_of_the_window_is_dropped(self, sequence):
        script = Script(PLAIN).established()
        assert script.give(RST | ACK, sequence, FIRST) == []
        assert script.state is State.ESTABLISHED

    def test_the_exact_reset_is_believed(self):
        script = Script(PLAIN).established()
        assert script.give(RST, 5001) == []
        assert (script.state, script.connection.error) == (State.CLOSED, errno.ECONNRESET)

    @pytest.mark.parametrize("sequence", [5001, 5000, 6000, 1, 1 << 31])
    def test_a_syn_never_resets(self, sequence):
        """RFC 5961 4.2."""
        script = Script(PLAIN).established()
        (challenge,) = script.give(SYN, sequence)
        assert (challenge.flags, challenge.sequence, challenge.acknowledgment) == (ACK, FIRST, 5001)
        assert script.state is State.ESTABLISHED

    @pytest.mark.parametrize("acknowledgment", [FIRST + 1, FIRST + 100_000, FIRST - 65536])
    def test_data_with_an_impossible_ack_is_not_taken(self, acknowledgment):
        """RFC 5961 5.2."""
        script = Script(PLAIN).established()
        (challenge,) = script.give(ACK, 5001, acknowledgment, b"injected")
        assert challenge.acknowledgment == 5001
        assert script.host.sink.available() == 0
        assert script.connection.counters["bad_acks"] == 1

    def test_data_with_an_old_ack_is_taken(self):
        script = Script(PLAIN).established()
        script.write(b"hello")
        script.give(ACK, 5001, FIRST + 5)
        script.give(ACK, 5001, FIRST, b"late")
        assert script.host.sink.read() == b"late"

    def test_data_without_ack_is_not_taken(self):
        script = Script(PLAIN).established()
        assert script.give(0, 5001, 0, b"injected") == []
        assert script.host.sink.available() == 0

    def test_challenges_are_throttled(self):
        """RFC 5961 7: ten in five seconds."""
        script = Script(PLAIN).established()
        assert sum(len(script.give(SYN, 5001)) for _ in range(100)) == 10
        assert script.connection.counters["answers_withheld"] == 90
        script.now += 5 * SECOND
        assert len(script.give(SYN, 5001)) == 1

    def test_two_lost_peers_do_not_answer_each_other_for_ever(self):
        one = Script(PLAIN).established(peer_isn=5000)
        other = Script(PLAIN).established(peer_isn=900_000)
        ball, bounces = one.give(ACK, 1, FIRST), 0
        while ball and bounces < 1000:
            bounces += 1
            script = (other, one)[bounces % 2 == 0]
            ball = script.give(ACK, ball[0].sequence, ball[0].acknowledgment)
        assert bounces <= 21

    def test_resets_at_the_end_are_no_error(self):
        script = Script(PLAIN).established()
        script.give(FIN | ACK, 5001, FIRST)
        script.connection.close(script.now)
        script.sent()
        assert script.state is State.LAST_ACK
        script.give(RST, 5002)
        assert (script.state, script.connection.error) == (State.CLOSED, 0)


class TestTimestamps:
    def test_old_duplicates_are_rejected(self):
        """RFC 7323 5.3."""
        script = Script(STAMPED).established(options=stamps(100))
        script.give(ACK, 5001, FIRST, b"new", options=stamps(110))
        (answer,) = script.give(ACK, 5004, FIRST, b"old", options=stamps(99))
        assert (answer.acknowledgment, answer.options.timestamps[1]) == (5004, 110)
        assert script.connection.counters["paws_rejected"] == 1
        assert script.host.sink.read() == b"new"

    def test_the_clock_of_timestamps_wraps(self):
        script = Script(STAMPED).established(options=stamps(0xFFFFFFF0))
        script.give(ACK, 5001, FIRST, b"a", options=stamps(5))
        assert script.host.sink.read() == b"a"

    def test_a_very_old_timestamp_is_forgotten(self):
        """RFC 7323 5.5: after 24 days of silence."""
        script = Script(STAMPED).established(options=stamps(100))
        script.now += 25 * 24 * 3600 * SECOND
        script.give(ACK, 5001, FIRST, b"a", options=stamps(50))
        assert script.host.sink.read() == b"a"

    def test_a_segment_without_timestamp_is_dropped_but_a_reset_is_not(self):
        """RFC 7323 3.2."""
        script = Script(STAMPED).established(options=stamps(100))
        assert script.give(ACK, 5001, FIRST, b"a") == []
        assert script.connection.counters["missing_timestamps"] == 1
        script.give(RST, 5001)
        assert script.state is State.CLOSED

    def test_what_is_echoed_is_from_the_segment_that_advanced(self):
        """RFC 7323 4.3 (2): not from one beyond a hole."""
        script = Script(STAMPED).established(options=stamps(100))
        assert script.give(ACK, 5011, FIRST, b"x", options=stamps(120))[0].options.timestamps[1] == 100
        assert script.give(ACK, 5001, FIRST, bytes(10), options=stamps(110))[0].options.timestamps[1] == 110

    def test_an_echo_of_the_future_is_no_sample(self):
        script = Script(STAMPED).established(options=stamps(100))
        (data,) = script.write(b"x")
        sample = script.connection.smoothed_rtt_ns
        for echo in (data.options.timestamps[0] + 1000, data.options.timestamps[0] - 10_000_000, 0):
            script.write(b"x")
            script.give(ACK, 5001, FIRST + script.connection.in_flight, options=stamps(101, echo))
        assert script.connection.smoothed_rtt_ns == sample or script.connection.smoothed_rtt_ns < SECOND


class TestBounds:
    def test_single_octets_out_of_order_take_no_more_than_the_window(self):
        script = Script(PLAIN, receive_capacity=8192).established()
        for offset in range(8191, 0, -2):
            script.connection.receive(script.segment(ACK, 5001 + offset, FIRST, b"x"), script.now)
            script.sent()
        assert script.connection.held_out_of_order == 4096
        for offset in range(8192, 200_000, 7):
            script.connection.receive(script.segment(ACK, 5001 + offset, FIRST, b"x" * 1400), script.now)
            script.sent()
        assert script.connection.held_out_of_order <= 8192

    def test_a_tiny_mss_costs_no_more_than_48(self):
        script = Script(PLAIN).established(options=TcpOptions(mss=0))
        assert {len(segment.payload) for segment in script.write(bytes(4800))} == {48}

    def test_overdone_duplicate_acks_do_not_open_the_window(self):
        script = Script(PLAIN).established(options=TcpOptions(mss=1000), window=20_000)
        sent = len(script.write(bytes(100_000)))
        for _ in range(1000):
            sent += len(script.give(ACK, 5001, FIRST, window=20_000))
        assert script.connection.in_flight <= 20_000
        assert sent <= 22


FLAGS = st.sampled_from([0, SYN, ACK, SYN | ACK, FIN, FIN | ACK, RST, RST | ACK, ACK | URG, 0xFF]) | st.integers(0, 255)
NEAR = st.integers(-3, 3) | st.integers(-2000, 80_000) | st.integers(0, 0xFFFFFFFF)
EDGE = st.integers(0, 0xFFFFFFFF) | st.integers(900, 4000)
OPTIONS = st.builds(
    TcpOptions,
    mss=st.none() | st.integers(0, 65535),
    window_scale=st.none() | st.integers(0, 255),
    sack_permitted=st.booleans(),
    sack=st.lists(st.tuples(EDGE, EDGE), max_size=4).map(tuple),
    timestamps=st.none() | st.tuples(st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF)) | st.just((100, 0)),
)
SEGMENTS = st.tuples(
    FLAGS,
    NEAR,
    NEAR,
    st.integers(0, 65535),
    st.binary(max_size=3) | st.integers(0, 3000).map(bytes),
    st.integers(0, 65535),
    OPTIONS,
    st.integers(0, 3 * SECOND),
)


def in_state(name: State, config: TcpConfig) -> Script:
    """A connection that was led into this state."""
    script = Script(config, send_capacity=4096, receive_capacity=4096)
    syn = TcpOptions(mss=1000, window_scale=2, sack_permitted=True, timestamps=(100, 0))
    options = TcpOptions(timestamps=(100, 0)) if config.timestamps else TcpOptions()
    if name is State.CLOSED:
        return script
    if name is State.SYN_SENT:
        script.connection.open_active(script.now)
        script.sent()
        return script
    if name is State.SYN_RECEIVED:
        script.connection.open_passive(script.segment(SYN, 5000, options=syn), script.now)
        script.sent()
        return script
    script.established(options=syn)
    if name in {State.CLOSE_WAIT, State.LAST_ACK}:
        script.give(FIN | ACK, 5001, FIRST, options=options)
    if name in {State.FIN_WAIT_1, State.FIN_WAIT_2, State.CLOSING, State.LAST_ACK, State.TIME_WAIT}:
        script.connection.close(script.now)
        script.sent()
    if name in {State.FIN_WAIT_2, State.TIME_WAIT}:
        script.give(ACK, 5001, FIRST + 1, options=options)
    if name in {State.CLOSING, State.TIME_WAIT}:
        script.give(FIN | ACK, 5001, FIRST + (name is State.TIME_WAIT), options=options)
    if name in {State.ESTABLISHED, State.CLOSE_WAIT}:
        script.write(bytes(3000))
    assert script.state is name
    return script


@pytest.mark.parametrize("name", [state for state in State if state is not State.LISTEN])
@settings(max_examples=60, deadline=None)
@given(segments=st.lists(SEGMENTS, min_size=1, max_size=12), stamped=st.booleans())
def test_rubbish_in_every_state(name, segments, stamped):
    script = in_state(name, TcpConfig() if stamped else replace(PLAIN, sack=True))
    for flags, sequence, acknowledgment, window, payload, urgent, options, pause in segments:
        script.connection.receive(
            Tcp(
                80,
                40000,
                (5001 + sequence) & 0xFFFFFFFF,
                (FIRST + acknowledgment) & 0xFFFFFFFF,
                flags,
                window,
                payload,
                urgent,
                options,
            ),
            script.now,
        )
        answers = script.sent()
        assert len(answers) <= 110
        assert all(len(answer.payload) <= 1460 for answer in answers)
        for answer in answers:
            answer.pack(*(endpoint.address for endpoint in (script.connection.local, script.connection.remote)))
        assert script.connection.held_out_of_order <= 65535 + 4096
        script.wait(pause)
        script.host.sink.read(100)
        script.connection.sink_ready(script.now)
    script.wait(4000 * SECOND)
    deadline = script.connection.deadline()
    assert deadline is None or deadline > script.now


def test_closed_connections_are_quiet():
    host = Host(PLAIN)
    assert host.connection.deadline() is None
    assert host.connection.transmit(START) == []
    host.connection.expire(START)
    host.connection.sink_ready(START)
    host.connection.abort(START)
    assert host.connection.transmit(START) == []
