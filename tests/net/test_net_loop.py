from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.errors import LocalError
from netemu.net import loop as loop_module
from netemu.net.clock import SECOND, VirtualClock, nanoseconds
from netemu.net.loop import LoopStuckError, VirtualLoop


def never():
    return False


def test_time_moves_only_to_deadlines():
    loop = VirtualLoop()
    seen = []
    loop.call_at(700, lambda: seen.append(loop.now()))
    loop.call_at(300, lambda: seen.append(loop.now()))
    loop.run_for(500)
    assert (seen, loop.now()) == ([300], 500)
    loop.run_for(500)
    assert (seen, loop.now()) == ([300, 700], 1000)


def test_callbacks_of_one_moment_run_as_asked():
    loop = VirtualLoop()
    seen = []
    for name in "abc":
        loop.call_at(5, lambda name=name: seen.append(name))
    loop.call_soon(lambda: seen.append("soon"))
    loop.run_for(5)
    assert seen == ["soon", "a", "b", "c"]


@given(st.lists(st.integers(0, 50), max_size=30))
@settings(max_examples=100, deadline=None)
def test_timers_fire_sorted_and_stable(moments):
    loop = VirtualLoop()
    fired = []
    for index, when in enumerate(moments):
        loop.call_at(when, lambda index=index, when=when: fired.append((when, index, loop.now())))
    loop.run_for(50)
    assert fired == [(when, index, when) for when, index in sorted((when, index) for index, when in enumerate(moments))]


def test_soon_runs_after_what_waits_and_never_inside_the_caller():
    loop = VirtualLoop()
    seen = []

    def first():
        loop.call_soon(lambda: seen.append("third"))
        seen.append("first")

    loop.call_soon(first)
    loop.call_soon(lambda: seen.append("second"))
    assert seen == []
    loop.run_for(0)
    assert seen == ["first", "second", "third"]


def test_a_cancelled_timer_neither_fires_nor_holds_time():
    loop = VirtualLoop()
    seen = []
    timer = loop.call_at(10, lambda: seen.append("no"))
    timer.cancel()
    assert timer.cancelled
    loop.run_for(20)
    assert seen == []


def test_a_timer_in_the_past_fires_now():
    loop = VirtualLoop()
    loop.run_for(100)
    seen = []
    loop.call_at(3, lambda: seen.append(loop.now()))
    loop.run_for(0)
    assert seen == [100]


def test_a_condition_stops_the_run_at_once():
    loop = VirtualLoop()
    seen = []
    loop.call_at(10, lambda: seen.append(1))
    loop.call_at(10, lambda: seen.append(2))
    assert loop.run_until(lambda: bool(seen), SECOND)
    assert (seen, loop.now()) == ([1], 10)


def test_a_missed_deadline_is_false_and_time_stands_at_it():
    loop = VirtualLoop()
    loop.call_at(2 * SECOND, lambda: None)
    assert not loop.run_until(never, SECOND)
    assert loop.now() == SECOND


def test_a_deadline_in_the_past_does_not_move_time_back():
    loop = VirtualLoop(VirtualClock(50))
    assert not loop.run_until(never, 10)
    assert loop.now() == 50


def test_blocking_inside_a_callback_is_refused():
    loop = VirtualLoop()
    loop.call_soon(lambda: loop.run_for(1))
    with pytest.raises(LocalError, match="from inside the loop"):
        loop.run_for(1)
    loop.run_for(1)  # and the loop is usable again


def test_a_live_lock_is_named(monkeypatch):
    monkeypatch.setattr(loop_module, "_ROUNDS_WITHOUT_TIME", 100)
    loop = VirtualLoop()

    def again():
        loop.call_soon(again)

    again()
    with pytest.raises(LoopStuckError, match="without time passing"):
        loop.run_for(1)


def test_many_callbacks_are_no_live_lock_while_time_passes(monkeypatch):
    monkeypatch.setattr(loop_module, "_ROUNDS_WITHOUT_TIME", 100)
    loop = VirtualLoop()
    seen = []
    for when in range(300):
        loop.call_at(when, lambda when=when: seen.append(when))
    loop.run_for(300)
    assert len(seen) == 300


def test_pollers_are_asked_before_time_passes():
    loop = VirtualLoop()
    moments, work = [], [True, True, False]

    def poller():
        moments.append(loop.now())
        return work.pop(0) if work else False

    loop.add_poller(poller)
    loop.call_at(40, lambda: None)
    loop.run_for(40)
    assert moments[:3] == [0, 0, 0]
    assert moments[3:] == [40]
    loop.remove_poller(poller)
    loop.run_for(10)
    assert len(moments) == 4


def test_every_poller_has_its_turn():
    loop = VirtualLoop()
    asked = []
    loop.add_poller(lambda: asked.append("first") or len(asked) == 1)
    loop.add_poller(lambda: asked.append("second") or False)
    loop.run_for(0)
    assert asked[:2] == ["first", "second"]


def test_a_virtual_clock_goes_forward_only():
    clock = VirtualClock()
    clock.advance_to(5)
    with pytest.raises(LocalError, match="cannot go back to 4 ns"):
        clock.advance_to(4)


@pytest.mark.parametrize(("seconds", "expected"), [(0, 0), (1.5, 1_500_000_000), (1e-9, 1)])
def test_seconds_become_nanoseconds(seconds, expected):
    assert nanoseconds(seconds) == expected


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_a_time_is_zero_or_more(seconds):
    with pytest.raises(LocalError, match="zero or more"):
        nanoseconds(seconds)
