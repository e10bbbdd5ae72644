"""The loop of the real clock: one thread, one epoll, one lock.

The loop's thread waits in epoll, without the lock, until a descriptor has events, the first timer is due, or another thread asks
for something (an eventfd wakes it). Then it takes the lock and runs a batch: calls for descriptors, timers that are due,
callbacks that are ready and, for a few rounds, those that they made ready, pollers. Whoever holds the lock (`with loop:`) sees the
network stand still. After each batch the threads that wait in `run_until` look at their conditions, under the lock.

Going to sleep and being woken costs more than many a batch does. So while events come at short intervals (less than `_PATIENCE`
between two batches) the thread asks epoll again and again, for that long at most, before it sleeps; when that was in vain it sleeps
at once until events come at short intervals again. QEMU's loop does likewise (util/aio-posix.c, `poll-max-ns`).

A poller is asked once a batch; while one says that it did work the thread does not sleep. A part that must be woken from outside
watches a descriptor (`netemu.io.watcher`).

An exception in a callback does not end the loop: the first one is kept, and raised by the next `run_until` or by `close`.

Timers are at most late, never early: by what the batch before them takes, and up to a millisecond, epoll's grain.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Self

from netemu.errors import LocalError
from netemu.io.watcher import READABLE, FdTable
from netemu.net.clock import SECOND
from netemu.net.loop import Callback, Timer, TimerHeap

__all__ = ["RealClock", "RealLoop"]

_PATIENCE = 30_000  # nanoseconds; QEMU's IOTHREAD_POLL_MAX_NS_DEFAULT is 32,768
_ROUNDS = 8  # a callback's callbacks, and theirs, run before epoll is asked again: a frame passes a network in one batch


class RealClock:
    """CLOCK_MONOTONIC, from when the clock was made."""

    __slots__ = ("_start",)

    def __init__(self) -> None:
        self._start = time.monotonic_ns()

    def now(self) -> int:
        return time.monotonic_ns() - self._start


class RealLoop:
    """A `Loop` in real time. Make it, use it from any thread, `close` it."""

    def __init__(self, name: str = "netemu-loop") -> None:
        self.clock = RealClock()
        self.descriptors = FdTable()
        self._lock = threading.RLock()
        self._batch_done = threading.Condition(self._lock)
        self._timers = TimerHeap()
        self._ready: deque[Callback] = deque()
        self._pollers: list[Callable[[], bool]] = []
        self._failure: Exception | None = None
        self._waiting = 0  # threads in run_until
        self._stopping = False
        self._stopped = False
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.descriptors.watch(self._wake_fd, READABLE, lambda _events: self._woken())
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)
        self._thread.start()
        self._inside = self._thread.ident

    def now(self) -> int:
        return self.clock.now()

    def call_soon(self, callback: Callback) -> None:
        with self._lock:
            self._ready.append(callback)
            self._wake()

    def call_at(self, when: int, callback: Callback) -> Timer:
        with self._lock:
            timer = self._timers.add(when, callback)
            self._wake()
            return timer

    def add_poller(self, poller: Callable[[], bool]) -> None:
        with self._lock:
            self._pollers.append(poller)
            self._wake()

    def remove_poller(self, poller: Callable[[], bool]) -> None:
        with self._lock:
            self._pollers.remove(poller)

    def run_until(self, condition: Callable[[], bool], deadline: int) -> bool:
        if threading.get_ident() == self._inside:
            raise LocalError("a blocking helper was called from inside the loop; use the non-blocking call in a callback")
        with self._batch_done:
            self._waiting += 1
            try:
                while True:
                    self._raise_failure()
                    if condition():
                        return True
                    if self._stopped:
                        raise LocalError("the loop is closed; nothing happens in it any more")
                    left = deadline - self.now()
                    if left <= 0:
                        return False
                    self._batch_done.wait(left / SECOND)
            finally:
                self._waiting -= 1

    def run_for(self, duration: int) -> None:
        """Let `duration` nanoseconds pass."""
        self.run_until(lambda: False, self.now() + duration)

    def __enter__(self) -> Self:
        self._lock.acquire()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._lock.release()

    def close(self) -> None:
        """End the thread and raise what a callback raised, if nobody has heard of it yet. A second call does nothing.

        What is still waiting to be called never is; close the parts first.
        """
        if threading.get_ident() == self._inside:
            raise LocalError("a loop cannot be closed from inside; close it from the thread that made it")
        with self._batch_done:
            if self._stopping:
                return
            self._stopping = True
            self._wake()
            self._batch_done.wait_for(lambda: self._stopped)  # lets go of the lock, however often the caller holds it
        self._thread.join()
        self.descriptors.close()
        os.close(self._wake_fd)
        self._raise_failure()

    def _wake(self) -> None:
        if threading.get_ident() != self._inside and not self._stopped:
            os.eventfd_write(self._wake_fd, 1)

    def _woken(self) -> None:
        os.eventfd_read(self._wake_fd)

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _live(self) -> None:
        timeout: float | None = 0
        polling = False  # events come at short intervals
        while not self._stopping:
            begun = time.monotonic_ns()
            ready = self._poll(begun + _PATIENCE) if polling and timeout != 0 else []
            polling = bool(ready)
            if not ready:
                ready = self.descriptors.poll(timeout)
                polling = bool(ready) and time.monotonic_ns() - begun < _PATIENCE
            with self._lock:
                timeout = self._batch(ready)
                if self._waiting:
                    self._batch_done.notify_all()
        with self._batch_done:
            self._stopped = True
            self._batch_done.notify_all()

    def _poll(self, end: int) -> list[tuple[int, int]]:
        """Ask epoll until it has something or `end` has come."""
        while not (ready := self.descriptors.poll(0)) and time.monotonic_ns() < end:
            pass
        return ready

    def _batch(self, ready: list[tuple[int, int]]) -> float | None:
        """Do what there is to do now; how long to wait for more then, in seconds."""
        for callback, events in self.descriptors.due(ready):
            try:
                callback(events)
            except Exception as error:  # noqa: BLE001 - whatever a callback raises belongs to who waits for the loop
                self._failure = self._failure or error
        deadline = self._timers.next_deadline()
        if deadline is not None and deadline <= (now := self.now()):
            while (timer := self._timers.pop_due(now)) is not None:
                self._run(timer.fire)
        for _ in range(_ROUNDS):
            for _ in range(len(self._ready)):
                self._run(self._ready.popleft())
            if not self._ready:
                break
        busy = False
        for poller in tuple(self._pollers):
            busy = self._run(poller) is True or busy
        if busy or self._ready:
            return 0
        deadline = self._timers.next_deadline()
        return None if deadline is None else max(0, deadline - self.now()) / SECOND

    def _run(self, callback: Callable[[], object]) -> object:
        try:
            return callback()
        except Exception as error:  # noqa: BLE001 - whatever a callback raises belongs to who waits for the loop
            self._failure = self._failure or error
            return None
