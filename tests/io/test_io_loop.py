"""The loop in real time. What holds for both loops is tested with both."""

from __future__ import annotations

import os
import threading

import pytest

from netemu.errors import LocalError
from netemu.io.loop import RealClock, RealLoop
from netemu.io.watcher import READABLE, WRITABLE, FdWatcher
from netemu.net.clock import MILLISECOND, SECOND
from netemu.net.loop import VirtualLoop

GENEROUS = 20 * SECOND


def until(loop, condition):
    assert loop.run_until(condition, loop.now() + GENEROUS)


def test_the_clock_starts_at_zero_and_moves_on():
    clock = RealClock()
    first, second = clock.now(), clock.now()
    assert 0 <= first <= second < SECOND


def test_callbacks_run_in_the_order_in_which_they_were_asked_for(loop):
    seen = []
    with loop:
        for number in range(5):
            loop.call_soon(lambda number=number: seen.append(number))
        assert seen == []
    until(loop, lambda: len(seen) == 5)
    assert seen == [0, 1, 2, 3, 4]


def test_timers_fire_in_order_and_never_early(loop):
    fired = []
    with loop:
        start = loop.now()
        for delay in (30, 10, 20):
            loop.call_at(start + delay * MILLISECOND, lambda delay=delay: fired.append((delay, loop.now() - start)))
        loop.call_at(start + 15 * MILLISECOND, lambda: fired.append((15, 0))).cancel()
    until(loop, lambda: len(fired) == 3)
    assert [delay for delay, _ in fired] == [10, 20, 30]
    assert all(late >= delay * MILLISECOND for delay, late in fired)


def test_a_sooner_timer_from_outside_shortens_the_wait(real_loop):
    fired = []
    real_loop.call_at(real_loop.now() + 3600 * SECOND, lambda: fired.append("late"))
    until(real_loop, lambda: True)
    real_loop.call_at(real_loop.now() + MILLISECOND, lambda: fired.append("soon"))
    until(real_loop, lambda: fired)
    assert fired == ["soon"]


def test_run_until_gives_up_at_its_deadline(loop):
    start = loop.now()
    assert not loop.run_until(lambda: False, start + 20 * MILLISECOND)
    assert loop.now() - start >= 20 * MILLISECOND
    loop.run_for(MILLISECOND)
    assert 21 * MILLISECOND <= loop.now() - start < GENEROUS


def test_a_true_condition_needs_no_time(loop):
    assert loop.run_until(lambda: True, 0)


def test_holding_the_loop_keeps_callbacks_out(real_loop):
    ran = threading.Event()
    with real_loop:
        real_loop.call_soon(ran.set)
        assert not ran.wait(0.05)
    assert ran.wait(GENEROUS / SECOND)


def test_run_until_lets_go_however_often_the_loop_is_held(loop):
    ran = []
    with loop, loop, loop:
        loop.call_soon(lambda: ran.append(1))
        until(loop, lambda: ran)


def test_the_condition_is_looked_at_under_the_lock(real_loop):
    """Both sides count in steps that would be seen half done without it."""
    pair = [0, 0]

    def step():
        pair[0] += 1
        pair[1] += 1
        if pair[0] < 300:
            real_loop.call_soon(step)

    def done():
        assert pair[0] == pair[1]
        return pair[0] == 300

    real_loop.call_soon(step)
    until(real_loop, done)


def test_blocking_inside_the_loop_is_refused(loop):
    refused = []

    def block():
        with pytest.raises(LocalError, match="inside the loop"):
            loop.run_until(lambda: False, loop.now())
        refused.append(True)

    loop.call_soon(block)
    until(loop, lambda: refused)


def test_closing_inside_the_loop_is_refused(real_loop):
    real_loop.call_soon(real_loop.close)
    with pytest.raises(LocalError, match="cannot be closed from inside"):
        real_loop.run_until(lambda: False, GENEROUS)


class OddError(Exception):
    pass


def raise_odd_error():
    raise OddError("from a callback")


def test_what_a_callback_raises_reaches_who_waits_and_the_loop_lives_on(loop):
    ran = []
    loop.call_soon(raise_odd_error)
    loop.call_soon(lambda: ran.append(1))
    with pytest.raises(OddError):
        loop.run_until(lambda: False, loop.now() + GENEROUS)
    until(loop, lambda: ran)


def test_the_first_exception_is_the_one_that_is_raised(real_loop):
    with real_loop:
        real_loop.call_soon(raise_odd_error)
        real_loop.call_soon(lambda: 1 / 0)
    with pytest.raises(OddError):
        real_loop.run_until(lambda: False, GENEROUS)
    real_loop.run_for(0)


def test_close_raises_what_nobody_has_heard_of():
    loop = RealLoop()
    ran = threading.Event()
    loop.call_soon(raise_odd_error)
    loop.call_soon(ran.set)
    assert ran.wait(GENEROUS / SECOND)
    with pytest.raises(OddError):
        loop.close()
    loop.close()


def test_a_closed_loop_says_so():
    loop = RealLoop()
    with loop:
        loop.close()  # even while it is held
    with pytest.raises(LocalError, match="closed"):
        loop.run_until(lambda: False, loop.now() + GENEROUS)
    loop.call_soon(lambda: None)  # harmless


def test_pollers_are_asked_until_they_have_nothing_to_do(loop):
    work = [1, 2, 3]
    done = []

    def poll():
        if work:
            done.append(work.pop(0))
            return True
        return False

    loop.add_poller(poll)
    until(loop, lambda: done == [1, 2, 3])
    loop.remove_poller(poll)
    work.append(4)
    loop.run_for(MILLISECOND)
    assert work == [4]


# Descriptors


@pytest.fixture
def pipe(nothing_left_behind):
    ends = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    yield ends
    for end in ends:
        os.close(end)


@pytest.fixture
def watcher(loop, pipe):
    watcher = FdWatcher(loop)
    yield watcher
    with loop:
        watcher.close()


def test_a_descriptor_is_reported_while_it_has_events(loop, watcher, pipe):
    reader, writer = pipe
    got = []
    with loop:
        watcher.watch(reader, READABLE, lambda events: got.append((events, os.read(reader, 2))))
    os.write(writer, b"abcd")  # level-triggered: two calls
    until(loop, lambda: len(got) == 2)
    assert got == [(READABLE, b"ab"), (READABLE, b"cd")]
    with loop:
        watcher.unwatch(reader)
        watcher.unwatch(reader)  # as often as you like
    os.write(writer, b"ef")
    loop.run_for(MILLISECOND)
    assert len(got) == 2


def test_other_events_from_now_on(loop, watcher, pipe):
    _, writer = pipe
    got = []

    def writable(events):
        got.append(events)
        watcher.modify(writer, 0)

    with loop:
        watcher.watch(writer, 0, writable)
    loop.run_for(MILLISECOND)
    assert got == []
    with loop:
        watcher.modify(writer, WRITABLE)
    until(loop, lambda: got)
    loop.run_for(MILLISECOND)
    assert got == [WRITABLE]


def test_a_call_made_void_by_an_earlier_one_does_not_come(loop, watcher, pipe):
    reader, writer = pipe
    got = []

    def once(fd, other):
        got.append(fd)
        watcher.unwatch(fd)
        watcher.unwatch(other)

    os.write(writer, b"x")
    with loop:
        watcher.watch(reader, READABLE, lambda _events: once(reader, writer))
        watcher.watch(writer, WRITABLE, lambda _events: once(writer, reader))
    until(loop, lambda: got)
    loop.run_for(MILLISECOND)
    assert len(got) == 1


def test_virtual_time_does_not_pass_before_descriptors_were_asked(pipe):
    loop = VirtualLoop()
    watcher = FdWatcher(loop)
    reader, writer = pipe
    seen = []
    watcher.watch(reader, READABLE, lambda _events: seen.append((loop.now(), os.read(reader, 100))))
    loop.call_at(SECOND, lambda: os.write(writer, b"x"))
    loop.call_at(2 * SECOND, lambda: seen.append((loop.now(), b"timer")))
    loop.run_for(3 * SECOND)
    assert seen == [(SECOND, b"x"), (2 * SECOND, b"timer")]
    watcher.close()


def test_virtual_time_waits_a_moment_for_what_the_kernel_was_given(pipe, monkeypatch):
    """The answer comes between the two looks, as it may on a busy machine; without `expect` there is one look only."""
    loop = VirtualLoop()
    watcher = FdWatcher(loop)
    reader, writer = pipe
    seen, waits = [], []
    look = watcher._table.poll

    def late(timeout):
        if timeout:
            waits.append(timeout)
            os.write(writer, b"x")
        return look(timeout)

    monkeypatch.setattr(watcher._table, "poll", late)
    watcher.watch(reader, READABLE, lambda _events: seen.append((loop.now(), os.read(reader, 100))))
    loop.run_for(SECOND)
    assert (seen, waits) == ([], [])
    watcher.expect()
    loop.run_for(SECOND)
    assert (seen, waits) == ([(SECOND, b"x")], [0.002])
    watcher.close()
