"""The state machine against the figures of RFC 9293: opening, closing, both at once, resets."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest
from tcp_pipe import MS, SECOND, A, B, Host, Pipe, Script

from netemu.errors import LocalError
from netemu.stack.tcp import State, TcpConfig, reply_to_unknown
from netemu.wire.tcp import ACK, FIN, PSH, RST, SYN, URG, Tcp, TcpOptions

PLAIN = TcpConfig(timestamps=False, window_scale=None, sack=False)


def shape(segment: Tcp) -> tuple[int, int, int, int]:
    return segment.flags, segment.sequence, segment.acknowledgment, len(segment.payload)


class TestOpening:
    def test_three_way_handshake(self):
        """RFC 9293 3.5, figure 6."""
        pipe = Pipe().connect().run(duration=SECOND)
        assert [shape(segment) for _, _, segment in pipe.log] == [
            (SYN, 1000, 0, 0),
            (SYN | ACK, 500_000, 1001, 0),
            (ACK, 1001, 500_001, 0),
        ]
        assert pipe.log[0][2].options == TcpOptions(1460, 7, True, (), (1_001_000, 0))
        assert pipe.log[1][2].options.timestamps == (1_500_010, 1_001_000)
        assert pipe.a.connection.smoothed_rtt_ns == pipe.b.connection.smoothed_rtt_ns == 20 * MS

    def test_simultaneous_open(self):
        """RFC 9293 3.5, figure 7."""
        pipe = Pipe()
        pipe.a.connection.open_active(pipe.now)
        pipe.b.connection.open_active(pipe.now)
        pipe.run(until=lambda: pipe.a.state is State.SYN_RECEIVED)
        pipe.run(duration=100 * MS)
        assert pipe.a.state is pipe.b.state is State.ESTABLISHED
        assert [shape(segment) for segment in pipe.sent_by("a")][:2] == [(SYN, 1000, 0, 0), (SYN | ACK, 1000, 500_001, 0)]
        assert len(pipe.log) <= 8
        pipe.a.to_send = memoryview(b"ping")
        pipe.b.to_send = memoryview(b"pong")
        pipe.run(duration=SECOND)
        assert (pipe.a.received, pipe.b.received) == (b"pong", b"ping")

    def test_simultaneous_open_ends_with_the_peers_syn_ack(self):
        """Line 6 of figure 7; the window of a SYN-ACK is not scaled (RFC 7323 2.2)."""
        script = Script(TcpConfig(timestamps=False))
        script.connection.open_active(script.now)
        script.sent()
        options = TcpOptions(mss=1000, window_scale=3)
        assert [shape(segment) for segment in script.give(SYN, 300, options=options)] == [(SYN | ACK, 1000, 301, 0)]
        assert script.give(SYN | ACK, 300, 1001, options=options, window=1000) == []
        assert script.state is State.ESTABLISHED
        assert script.connection.send_window == 1000

    def test_old_duplicate_syn(self):
        """RFC 9293 3.5, figure 8: the wrong ACK is answered by RST, whose passive side gives up."""
        script = Script(PLAIN, isn=100)
        script.connection.open_active(script.now)
        script.sent()
        assert [shape(segment) for segment in script.give(SYN | ACK, 300, 91)] == [(RST, 91, 0, 0)]
        assert script.state is State.SYN_SENT
        passive = Script(PLAIN, isn=300)
        passive.connection.open_passive(passive.segment(SYN, 90), passive.now)
        passive.sent()
        assert passive.give(RST, 91) == []
        assert (passive.state, passive.connection.error) == (State.CLOSED, errno.ECONNRESET)

    def test_half_open_discovered(self):
        """RFC 9293 3.5.1, figure 9: the crashed side's SYN is challenged, its RST believed."""
        script = Script(PLAIN, isn=300).established(peer_isn=99)
        assert [shape(segment) for segment in script.give(SYN, 400)] == [(ACK, 301, 100, 0)]
        crashed = Script(PLAIN, isn=400)
        crashed.connection.open_active(crashed.now)
        crashed.sent()
        (reset,) = crashed.give(ACK, 301, 100)
        assert shape(reset) == (RST, 100, 0, 0)
        script.give(RST, 100)
        assert (script.state, script.connection.error) == (State.CLOSED, errno.ECONNRESET)

    def test_active_side_half_open(self):
        """RFC 9293 3.5.1, figure 10: data for a connection that the other side no longer knows."""
        script = Script(PLAIN, isn=99).established(peer_isn=299)
        (data,) = script.write(b"x" * 10)
        reset = reply_to_unknown(replace(data))
        assert reset is not None
        assert shape(reset) == (RST, 300, 0, 0)
        script.give(RST, 300)
        assert script.connection.error == errno.ECONNRESET

    def test_refused(self):
        script = Script(PLAIN)
        script.connection.open_active(script.now)
        (syn,) = script.sent()
        reset = reply_to_unknown(syn)
        assert shape(reset) == (RST | ACK, 0, 1001, 0)
        script.connection.receive(reset, script.now)
        assert (script.state, script.connection.error) == (State.CLOSED, errno.ECONNREFUSED)
        assert script.connection.deadline() is None

    def test_a_reset_without_ack_does_not_refuse(self):
        script = Script(PLAIN)
        script.connection.open_active(script.now)
        script.sent()
        assert script.give(RST, 0) == []
        assert script.give(RST | ACK, 0, 4711) == []
        assert script.state is State.SYN_SENT

    def test_syn_retry_times(self):
        script, times = Script(PLAIN), []
        script.connection.open_active(script.now)
        start = script.now
        while script.state is State.SYN_SENT:
            times += [(script.now - start) // SECOND for segment in script.sent() if segment.flags == SYN]
            script.now = script.connection.deadline()
            script.connection.expire(script.now)
        assert times == [0, 1, 3, 7, 15, 31, 63, 123]
        assert (script.now - start) // SECOND == 183  # MUST-23: at least three minutes
        assert script.connection.error == errno.ETIMEDOUT

    def test_syn_ack_is_sent_again_for_a_repeated_syn_and_by_the_timer(self):
        script = Script(PLAIN)
        script.connection.open_passive(script.segment(SYN, 70), script.now)
        (first,) = script.sent()
        assert script.give(SYN, 70) == [first]
        assert script.wait(SECOND) == [first]
        script.give(ACK, 71, 1001)
        assert script.state is State.ESTABLISHED

    def test_text_with_the_syn_waits_for_the_handshake(self):
        """RFC 9293 3.10.7.2: queued, and acknowledged later."""
        script = Script(PLAIN)
        script.connection.open_passive(script.segment(SYN, 70, payload=b"early"), script.now)
        assert shape(script.sent()[0]) == (SYN | ACK, 1000, 71, 0)
        assert script.host.sink.available() == 0
        assert [shape(segment) for segment in script.give(ACK, 71, 1001)] == [(ACK, 1001, 76, 0)]
        assert script.host.sink.read() == b"early"

    def test_text_with_the_syn_ack(self):
        script = Script(PLAIN)
        script.connection.open_active(script.now)
        script.sent()
        assert [shape(segment) for segment in script.give(SYN | ACK, 70, 1001, b"now")] == [(ACK, 1001, 74, 0)]
        assert script.host.sink.read() == b"now"

    def test_wrong_ack_in_syn_received(self):
        script = Script(PLAIN)
        script.connection.open_passive(script.segment(SYN, 70), script.now)
        script.sent()
        assert [shape(segment) for segment in script.give(ACK, 71, 999)] == [(RST, 999, 0, 0)]
        assert script.state is State.SYN_RECEIVED

    def test_deferred_accept(self):
        script = Script(PLAIN)
        script.connection.open_passive(script.segment(SYN, 70), script.now, defer=True)
        assert script.wait(100 * SECOND) == []
        assert script.give(SYN, 70) == []
        assert script.give(ACK, 71, 1001) == []
        script.connection.accept(script.now)
        assert shape(script.sent()[0]) == (SYN | ACK, 1000, 71, 0)
        script.give(ACK, 71, 1001)
        assert script.state is State.ESTABLISHED

    def test_deferred_refusal_and_deferred_reset(self):
        script = Script(PLAIN)
        script.connection.open_passive(script.segment(SYN, 70), script.now, defer=True)
        script.connection.abort(script.now)
        assert [shape(segment) for segment in script.sent()] == [(RST | ACK, 0, 71, 0)]
        assert script.state is State.CLOSED
        other = Script(PLAIN)
        other.connection.open_passive(other.segment(SYN, 70), other.now, defer=True)
        assert other.give(RST, 70) == []
        assert other.state is State.SYN_RECEIVED
        assert other.give(RST, 71) == []
        assert other.state is State.CLOSED

    def test_unreachable_is_fatal_only_before_the_handshake(self):
        script = Script(PLAIN)
        script.connection.open_active(script.now)
        script.sent()
        script.connection.unreachable(errno.EHOSTUNREACH, script.now)
        assert (script.state, script.connection.error) == (State.CLOSED, errno.EHOSTUNREACH)
        later = Script(PLAIN).established()
        later.connection.unreachable(errno.EHOSTUNREACH, later.now)
        assert later.state is State.ESTABLISHED
        assert later.connection.counters["unreachable"] == 1

    def test_opened_once_and_by_a_syn(self):
        script = Script(PLAIN).established()
        with pytest.raises(LocalError, match="once"):
            script.connection.open_active(script.now)
        with pytest.raises(LocalError, match="SYN"):
            Script(PLAIN).connection.open_passive(script.segment(SYN | ACK, 1), script.now)


class TestClosing:
    def test_normal_close(self):
        """RFC 9293 3.6, figure 12."""
        pipe = Pipe(Host(PLAIN), Host(PLAIN, B, A, isn=300)).connect().run(duration=SECOND)
        pipe.log.clear()
        pipe.a.connection.close(pipe.now)
        pipe.run(until=lambda: pipe.b.state is State.CLOSE_WAIT)
        pipe.run(until=lambda: pipe.a.state is State.FIN_WAIT_2)
        pipe.b.connection.close(pipe.now)
        pipe.run(until=lambda: pipe.a.state is State.TIME_WAIT)
        closed_at = pipe.now
        assert pipe.b.state is State.LAST_ACK
        pipe.run(until=lambda: pipe.b.state is State.CLOSED)
        assert [shape(segment) for _, _, segment in pipe.log] == [
            (FIN | ACK, 1001, 301, 0),
            (ACK, 301, 1002, 0),
            (FIN | ACK, 301, 1002, 0),
            (ACK, 1002, 302, 0),
        ]
        pipe.run()
        assert pipe.a.state is State.CLOSED
        assert pipe.now - closed_at == 60 * SECOND
        assert pipe.a.connection.error == pipe.b.connection.error == 0
        assert pipe.a.sink.eof
        assert pipe.b.sink.eof

    def test_simultaneous_close(self):
        """RFC 9293 3.6, figure 13."""
        pipe = Pipe().connect().run(duration=SECOND)
        pipe.log.clear()
        seen = set()

        def watch():
            seen.update({("a", pipe.a.state), ("b", pipe.b.state)})
            return False

        pipe.a.connection.close(pipe.now)
        pipe.b.connection.close(pipe.now)
        pipe.run(until=watch, duration=SECOND)
        assert {("a", State.FIN_WAIT_1), ("a", State.CLOSING), ("a", State.TIME_WAIT)} <= seen
        assert {("b", State.CLOSING), ("b", State.TIME_WAIT)} <= seen
        assert [segment.flags for _, _, segment in pipe.log] == [FIN | ACK, FIN | ACK, ACK, ACK]
        pipe.run()
        assert pipe.a.state is pipe.b.state is State.CLOSED

    def test_half_close(self):
        pipe = Pipe().connect()
        pipe.a.to_send = memoryview(b"request")
        pipe.a.close_when_sent = True
        pipe.run(until=lambda: pipe.b.sink.eof, duration=SECOND)
        assert pipe.b.received == b"request"
        pipe.b.to_send = memoryview(bytes(300_000))
        pipe.b.close_when_sent = True
        pipe.run(until=lambda: pipe.a.sink.eof, duration=60 * SECOND)
        assert len(pipe.a.received) == 300_000
        assert (pipe.a.state, pipe.b.state) == (State.TIME_WAIT, State.LAST_ACK)

    def test_close_sends_what_is_queued_first(self):
        script = Script(PLAIN).established(options=TcpOptions(mss=1460), window=2000)
        assert [len(segment.payload) for segment in script.write(b"x" * 3000)] == [1460]
        script.connection.close(script.now)
        script.host.source.write(b"too late")
        assert script.state is State.ESTABLISHED
        assert [shape(segment) for segment in script.give(ACK, 5001, 2461)] == [
            (ACK, 2461, 5001, 1460),
            (FIN | PSH | ACK, 3921, 5001, 80),
        ]
        assert script.state is State.FIN_WAIT_1

    def test_fin_acknowledged_with_the_peers_fin(self):
        script = Script(PLAIN).established()
        script.connection.close(script.now)
        script.sent()
        assert [shape(segment) for segment in script.give(FIN | ACK, 5001, 1002)] == [(ACK, 1002, 5002, 0)]
        assert script.state is State.TIME_WAIT

    def test_time_wait_restarts_on_a_retransmitted_fin(self):
        script = Script(PLAIN).established()
        script.connection.close(script.now)
        script.sent()
        script.give(FIN | ACK, 5001, 1002)
        script.wait(40 * SECOND)
        assert [shape(segment) for segment in script.give(FIN | ACK, 5001, 1002)] == [(ACK, 1002, 5002, 0)]
        script.wait(59 * SECOND)
        assert script.state is State.TIME_WAIT
        script.wait(SECOND)
        assert script.state is State.CLOSED

    def test_time_wait_may_be_reused(self):
        script = Script(PLAIN).established()
        script.connection.close(script.now)
        script.sent()
        assert not script.connection.accepts_new_incarnation(script.segment(SYN, 9000), script.now)
        script.give(FIN | ACK, 5001, 1002)
        assert script.connection.accepts_new_incarnation(script.segment(SYN, 9000), script.now)
        assert not script.connection.accepts_new_incarnation(script.segment(SYN, 5002), script.now)
        assert not script.connection.accepts_new_incarnation(script.segment(SYN | ACK, 9000), script.now)

    def test_time_wait_is_reused_by_timestamp(self):
        """RFC 6191 2."""
        script = Script(TcpConfig()).established(options=TcpOptions(timestamps=(50, 0)))
        script.connection.close(script.now)
        script.sent()
        script.give(FIN | ACK, 5001, 1002, options=TcpOptions(timestamps=(60, 0)))
        newer = script.segment(SYN, 10, options=TcpOptions(timestamps=(61, 0)))
        older = script.segment(SYN, 9000, options=TcpOptions(timestamps=(59, 0)))
        assert script.connection.accepts_new_incarnation(newer, script.now)
        assert not script.connection.accepts_new_incarnation(older, script.now)

    def test_fin_is_retransmitted_and_the_peer_given_up(self):
        script = Script(replace(PLAIN, retries=4)).established()
        script.connection.close(script.now)
        fins = script.wait(200 * SECOND)
        assert [shape(segment) for segment in fins] == [(FIN | ACK, 1001, 5001, 0)] * 5
        assert (script.state, script.connection.error) == (State.CLOSED, errno.ETIMEDOUT)

    def test_close_in_syn_sent(self):
        script = Script(PLAIN)
        script.connection.open_active(script.now)
        script.connection.close(script.now)
        assert (script.state, script.sent()) == (State.CLOSED, [])

    def test_close_before_the_handshake_is_over(self):
        script = Script(PLAIN)
        script.connection.open_passive(script.segment(SYN, 70), script.now)
        script.sent()
        script.connection.close(script.now)
        assert [segment.flags for segment in script.give(ACK, 71, 1001)] == [FIN | ACK]
        assert script.state is State.FIN_WAIT_1


class TestAborting:
    def test_abort_resets_the_peer(self):
        pipe = Pipe().connect()
        pipe.a.connection.abort(pipe.now)
        pipe.run(duration=SECOND)
        assert pipe.log[-1][2].flags == RST | ACK
        assert (pipe.b.state, pipe.b.connection.error) == (State.CLOSED, errno.ECONNRESET)
        assert pipe.a.connection.error == 0

    def test_abort_after_both_fins_is_silent(self):
        script = Script(PLAIN).established()
        script.connection.close(script.now)
        script.sent()
        script.give(FIN | ACK, 5001, 1002)
        script.connection.abort(script.now)
        assert (script.state, script.sent()) == (State.CLOSED, [])

    def test_a_closed_connection_answers_like_none(self):
        script = Script(PLAIN).established()
        script.connection.abort(script.now)
        script.sent()
        assert [shape(segment) for segment in script.give(ACK, 5001, 1001, b"data")] == [(RST, 1001, 0, 0)]
        assert script.give(RST, 5001) == []

    def test_unknown_segments(self):
        """RFC 9293 3.10.7.1."""
        script = Script(PLAIN)
        assert shape(reply_to_unknown(script.segment(FIN | PSH, 10, payload=b"abc"))) == (RST | ACK, 0, 14, 0)
        assert shape(reply_to_unknown(script.segment(ACK, 10, 77))) == (RST, 77, 0, 0)
        assert reply_to_unknown(script.segment(RST | ACK, 10, 77)) is None


def test_urgent_data_is_sent_with_its_end():
    script = Script(PLAIN).established()
    script.host.source.write(b"urgent")
    script.connection.urge(6)
    script.host.source.write(b"!")
    (segment,) = script.connection.transmit(script.now)
    assert (segment.flags & URG, segment.urgent_pointer, segment.payload) == (URG, 6, b"urgent!")


def test_urgent_data_is_in_line_and_its_end_known():
    script = Script(PLAIN).established()
    assert script.connection.urgent is None
    script.give(ACK | URG, 5001, 1001, b"abc!rest", urgent_pointer=4)
    assert script.connection.urgent == 4
    assert script.host.sink.read() == b"abc!rest"
