"""The receiving end: when it acknowledges, what window it announces, and what it holds."""

from __future__ import annotations

from dataclasses import replace

from tcp_pipe import MS, SECOND, Script

from netemu.stack.tcp import State, TcpConfig
from netemu.wire.tcp import ACK, FIN, SYN, TcpOptions

PLAIN = TcpConfig(timestamps=False, window_scale=None, sack=False)
FULL = bytes(1000)


def receiver(config: TcpConfig = PLAIN, **more: object) -> Script:
    options = TcpOptions(mss=1000, sack_permitted=True)
    return Script(replace(config, mss=1000), **more).established(options=options)


class TestAcknowledgments:
    def test_every_second_segment_at_once(self):
        """RFC 9293 3.8.6.3."""
        script = receiver()
        assert script.give(ACK, 5001, 1001, FULL) == []
        assert [segment.acknowledgment for segment in script.give(ACK, 6001, 1001, FULL)] == [7001]
        assert script.connection.deadline() is None

    def test_one_segment_after_the_delay(self):
        script = receiver()
        script.give(ACK, 5001, 1001, FULL)
        assert script.connection.deadline() == script.now + 40 * MS
        assert [segment.acknowledgment for segment in script.wait(40 * MS)] == [6001]
        assert script.wait(SECOND) == []

    def test_data_carries_it(self):
        script = receiver()
        script.give(ACK, 5001, 1001, b"ask")
        assert [(segment.payload, segment.acknowledgment) for segment in script.write(b"answer")] == [(b"answer", 5004)]
        assert script.wait(50 * MS) == []

    def test_each_segment_out_of_order_at_once(self):
        """RFC 5681 4.2, even when several arrive before anything is sent."""
        script = receiver()
        for sequence in (6001, 7001, 8001):
            script.connection.receive(script.segment(ACK, sequence, 1001, FULL), script.now)
        assert [segment.acknowledgment for segment in script.sent()] == [5001] * 3
        assert [segment.acknowledgment for segment in script.give(ACK, 5001, 1001, FULL)] == [9001]
        assert script.host.sink.available() == 4000

    def test_duplicates_at_once(self):
        script = receiver()
        script.give(ACK, 5001, 1001, FULL)
        assert [segment.acknowledgment for segment in script.give(ACK, 5001, 1001, FULL)] == [6001]
        assert script.host.sink.available() == 1000

    def test_overlaps_are_trimmed(self):
        script = receiver()
        script.give(ACK, 5001, 1001, b"abcdef")
        script.give(ACK, 5004, 1001, b"defghi")
        assert script.host.sink.read() == b"abcdefghi"

    def test_sack_says_what_is_held(self):
        """RFC 2018 4."""
        script = receiver(replace(PLAIN, sack=True))
        seen = [script.give(ACK, sequence, 1001, FULL)[0].options.sack for sequence in (6001, 8001, 10_001, 7001)]
        assert seen == [
            ((6001, 7001),),
            ((8001, 9001), (6001, 7001)),
            ((10_001, 11_001), (8001, 9001), (6001, 7001)),
            ((6001, 9001), (10_001, 11_001)),
        ]
        assert script.give(ACK, 5001, 1001, FULL)[0].options.sack == ((10_001, 11_001),)
        assert script.give(ACK, 9001, 1001, FULL)[0].options.sack == ()

    def test_no_sack_unless_agreed(self):
        script = receiver()
        assert script.give(ACK, 6001, 1001, FULL)[0].options.sack == ()

    def test_fin_before_its_text(self):
        script = receiver()
        assert script.give(ACK | FIN, 6001, 1001, b"end")[0].acknowledgment == 5001
        assert script.state is State.ESTABLISHED
        assert script.give(ACK, 5001, 1001, FULL)[-1].acknowledgment == 6005
        assert script.state is State.CLOSE_WAIT
        assert script.host.sink.read() == FULL + b"end"
        assert script.host.sink.eof

    def test_a_bare_fin_out_of_order_is_answered_at_once(self):
        script = receiver()
        assert [segment.acknowledgment for segment in script.give(ACK | FIN, 5004, 1001)] == [5001]
        script.give(ACK, 5001, 1001, b"abc")
        assert script.state is State.CLOSE_WAIT

    def test_text_after_the_fin_is_not_delivered(self):
        script = receiver()
        script.give(ACK, 5011, 1001, b"beyond")
        script.give(ACK | FIN, 5006, 1001, b"fghij"[:2])
        script.give(ACK | FIN, 5003, 1001)
        script.give(ACK | FIN, 5012, 1001)
        script.give(ACK, 5001, 1001, b"abcde")
        assert script.host.sink.read() == b"abcdefg"
        assert script.connection.held_out_of_order == 0


class TestWindow:
    def test_the_window_is_the_room(self):
        script = receiver(receive_capacity=5000)
        script.give(ACK, 5001, 1001, FULL)
        assert [segment.window for segment in script.give(ACK, 6001, 1001, FULL)] == [3000]

    def test_nothing_beyond_the_window_is_taken(self):
        script = receiver(receive_capacity=2500)
        script.give(ACK, 5001, 1001, FULL)
        script.give(ACK, 6001, 1001, FULL)
        script.give(ACK, 7001, 1001, FULL)
        assert [(answer.acknowledgment, answer.window) for answer in script.wait(SECOND)] == [(7501, 0)]
        assert script.host.sink.room() == 0

    def test_zero_window_probes_are_answered_and_acks_still_count(self):
        """RFC 9293 3.10.7.4: special allowance for ACKs when the window is zero."""
        script = receiver(receive_capacity=1000)
        script.give(ACK, 5001, 1001, FULL)
        script.wait(SECOND)
        script.write(b"hello")
        assert script.connection.in_flight == 5
        (answer,) = script.give(ACK, 6001, 1006, b"p")
        assert (answer.acknowledgment, answer.window) == (6001, 0)
        assert script.connection.in_flight == 0

    def test_a_fin_needs_no_room(self):
        script = receiver(receive_capacity=1000)
        script.give(ACK, 5001, 1001, FULL)
        script.wait(SECOND)
        assert script.give(ACK | FIN, 6001, 1001)[0].acknowledgment == 6002
        assert script.state is State.CLOSE_WAIT

    def test_silly_windows_are_not_announced(self):
        """RFC 9293 3.8.6.2.2: steps of min(MSS, half the buffer)."""
        script = receiver(receive_capacity=4000)
        for sequence in range(5001, 9001, 1000):
            script.give(ACK, sequence, 1001, FULL)
        script.host.sink.read(999)
        script.connection.sink_ready(script.now)
        assert script.sent() == []
        assert script.give(ACK, 9001, 1001, b"x")[0].window == 0
        script.host.sink.read(1)
        script.connection.sink_ready(script.now)
        assert [segment.window for segment in script.sent()] == [1000]

    def test_an_open_window_is_not_updated_for_every_read(self):
        script = receiver(receive_capacity=10_000)
        script.give(ACK, 5001, 1001, FULL)
        script.give(ACK, 6001, 1001, FULL)
        script.host.sink.read()
        script.connection.sink_ready(script.now)
        assert script.sent() == []

    def test_the_right_edge_never_moves_back(self):
        """RFC 7323 2.4: a sink that loses its room does not take back what was promised."""
        script = receiver(replace(PLAIN, sack=True), receive_capacity=4000)
        script.host.sink.offer(bytes(3000))
        (answer,) = script.give(ACK, 4000, 1001)
        assert answer.window == 4000
        script.give(ACK, 5001, 1001, FULL)
        script.give(ACK, 6001, 1001, FULL)
        assert script.host.sink.available() == 4000
        assert script.connection.held_out_of_order == 1000
        assert script.connection.counters["sink_refusals"] == 1
        assert script.give(ACK, 6501, 1001, FULL[:500])[0].options.sack == ()
        script.host.sink.read()
        script.connection.sink_ready(script.now)
        assert script.sent()[0].acknowledgment == 7001
        assert script.connection.held_out_of_order == 0

    def test_a_fin_waits_for_a_full_sink(self):
        script = receiver(receive_capacity=2000)
        script.host.sink.offer(bytes(2000))
        script.give(ACK | FIN, 5001, 1001, b"last words")
        assert script.state is State.ESTABLISHED
        assert script.host.sink.read() == bytes(2000)
        script.connection.sink_ready(script.now)
        assert script.state is State.CLOSE_WAIT
        assert script.host.sink.read() == b"last words"

    def test_window_scale(self):
        """RFC 7323 2.2: not in SYNs, shifted after."""
        options = TcpOptions(mss=1000, window_scale=3)
        script = Script(replace(PLAIN, window_scale=7), receive_capacity=1 << 20)
        script.connection.open_active(script.now)
        (syn,) = script.sent()
        assert (syn.window, syn.options.window_scale) == (65535, 7)
        (answer,) = script.give(SYN | ACK, 5000, 1001, options=options, window=1000)
        assert answer.window == (1 << 20) >> 7
        assert script.connection.send_window == 1000
        script.give(ACK, 5001, 1001, window=1000)
        assert script.connection.send_window == 8000

    def test_no_scale_unless_both_offer_it(self):
        script = Script(replace(PLAIN, window_scale=7), receive_capacity=1 << 20).established(window=1000)
        assert script.give(ACK, 5000, 1001, window=2000)[0].window == 65535
        script.give(ACK, 5001, 1001, window=2000)
        assert script.connection.send_window == 2000

    def test_rounding_by_the_scale_does_not_forget_the_edge(self):
        """RFC 7323 2.4 and appendix F: a segment within any window ever announced is accepted."""
        config = replace(PLAIN, window_scale=10, mss=1000)
        script = Script(config, receive_capacity=4096).established(options=TcpOptions(mss=1000, window_scale=0))
        assert script.give(ACK, 5000, 1001)[0].window == 4
        script.give(ACK, 5001, 1001, bytes(600))
        (answer,) = script.give(ACK, 5601, 1001, bytes(600))
        assert answer.window == (4096 - 1200) >> 10
        assert script.give(ACK, 5001 + 4095, 1001, b"z")
        assert script.connection.held_out_of_order == 1
