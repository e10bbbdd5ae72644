"""Descriptors under either clock.

A part that owns descriptors makes an `FdWatcher` of its loop and says which events it waits for; its callback gets the epoll event
mask and must stand a spurious call (a read that says EAGAIN). Events are level-triggered, so a callback need not empty its
descriptor, and must stop watching for what it does not mean to deal with.

Under a real loop the descriptors join the loop's own epoll. Under a virtual loop the watcher has an epoll of its own and is one of
the loop's pollers: whenever virtual time is about to pass, it looks once without waiting. What is sent over loopback, or
inside a network namespace, is delivered by the kernel during the system call that sends it, so that look sees the answer. The
kernel does not promise this: under load it finishes such work in another thread, a moment later. So after a part has said that
it gave the kernel something to do (`expect`), the first look that finds nothing waits for at most 2 ms of real time.
Programs in other processes are not waited for: they need the real clock.

Determinism class of a virtual network with real descriptors: `ordered`. Virtual times repeat and every stream's octets come in
order; how they are grouped, and the order among descriptors, is the kernel's.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, runtime_checkable

from netemu.net.loop import Loop

__all__ = ["ERROR", "HANGUP", "READABLE", "WRITABLE", "DescriptorLoop", "FdCallback", "FdTable", "FdWatcher"]

READABLE = select.EPOLLIN
WRITABLE = select.EPOLLOUT
ERROR = select.EPOLLERR  # always reported, asked for or not
HANGUP = select.EPOLLHUP  # always reported, asked for or not

FdCallback = Callable[[int], None]

_SETTLE = 0.002  # seconds of real time


class FdTable:
    """An epoll and who is called for each descriptor in it."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, FdCallback] = {}

    def watch(self, fd: int, events: int, callback: FdCallback) -> None:
        """Call `callback` with the events that hold, until `unwatch`; errors and hang-ups are reported even if `events` is 0."""
        self._epoll.register(fd, events)
        self._watched[fd] = callback

    def modify(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def unwatch(self, fd: int) -> None:
        """Forget `fd`, before it is closed; a call that is due already does not come."""
        del self._watched[fd]
        self._epoll.unregister(fd)

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        """Wait up to `timeout` seconds (None: for ever; rounded up to milliseconds) for descriptors with events."""
        return self._epoll.poll(timeout)

    def due(self, ready: Iterable[tuple[int, int]]) -> Iterator[tuple[FdCallback, int]]:
        """Whom to call with which events for what `poll` gave; a call that an earlier one made void is left out."""
        watched = self._watched
        found = [(fd, watched.get(fd), events) for fd, events in ready]
        for fd, callback, events in found:
            if callback is not None and watched.get(fd) is callback:
                yield callback, events

    def close(self) -> None:
        self._epoll.close()


@runtime_checkable
class DescriptorLoop(Protocol):
    """A loop that waits for descriptors itself."""

    @property
    def descriptors(self) -> FdTable: ...


class FdWatcher:
    """The descriptors of one part; `close` forgets those that are left."""

    def __init__(self, loop: Loop) -> None:
        self._fds: set[int] = set()
        self._loop = loop
        self._polls = not isinstance(loop, DescriptorLoop)
        self._expecting = False
        if isinstance(loop, DescriptorLoop):
            self._table = loop.descriptors
        else:
            self._table = FdTable()
            loop.add_poller(self._poll)

    def watch(self, fd: int, events: int, callback: FdCallback) -> None:
        """Call `callback(events)` while one of `events` (or an error or hang-up) holds."""
        self._table.watch(fd, events, callback)
        self._fds.add(fd)

    def modify(self, fd: int, events: int) -> None:
        """Wait for `events` from now on."""
        self._table.modify(fd, events)

    def unwatch(self, fd: int) -> None:
        """Call no more for `fd`; do this before it is closed. Not watched at all is fine."""
        if fd in self._fds:
            self._fds.remove(fd)
            self._table.unwatch(fd)

    def expect(self) -> None:
        """The kernel was given something that may come back: look twice before virtual time passes."""
        self._expecting = True

    def _poll(self) -> bool:
        ready = self._table.poll(0)
        if not ready and self._expecting:
            self._expecting = False
            ready = self._table.poll(_SETTLE)
        for callback, events in self._table.due(ready):
            callback(events)
        return bool(ready)

    def close(self) -> None:
        for fd in list(self._fds):
            self.unwatch(fd)
        if self._polls:
            self._polls = False
            self._loop.remove_poller(self._poll)
            self._table.close()
