"""Frames through a stream socket, whose reads and writes end where they like."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress

import pytest

from netemu.io.streamframes import LENGTH, StreamFrames
from netemu.io.watcher import FdWatcher
from netemu.net.clock import SECOND
from netemu.net.port import MAX_FRAME, Port, connect

FRAME = bytes(range(60))
GENEROUS = 20 * SECOND


def packed(*frames):
    return b"".join(LENGTH.pack(len(frame)) + frame for frame in frames)


class Ends:
    """A `StreamFrames` on one end of a socket pair, what it sends on, and the bare other end."""

    def __init__(self, loop):
        self.loop = loop
        self.willing = True
        self.got = []
        self.gone = []
        self.sock, self.other = socket.socketpair()
        self.sock.setblocking(False)
        self.other.setblocking(False)
        with loop:
            self.watcher = FdWatcher(loop)
            self.port = Port(loop, "stream")
            self.inbox = Port(loop, "inbox", self._receive)
            connect(self.port, self.inbox)
            self.frames = StreamFrames(self.watcher, self.sock, self.port, self.gone.append)

    def _receive(self, frame, _header):
        if self.willing:
            self.got.append(frame)
        return self.willing

    def until(self, condition):
        assert self.loop.run_until(condition, self.loop.now() + GENEROUS)

    def close(self):
        with self.loop:
            self.frames.close()
            self.watcher.close()
            self.sock.close()
            self.other.close()


@pytest.fixture
def ends(loop):
    ends = Ends(loop)
    yield ends
    ends.close()


def test_frames_pass_whole_in_both_directions(ends):
    ends.other.send(packed(FRAME, b"short"))
    ends.until(lambda: len(ends.got) == 2)
    assert ends.got == [FRAME, b"short"]

    with ends.loop:
        ends.inbox.send(FRAME)
        ends.inbox.send(FRAME[:14])
    received = bytearray()

    def all_there():
        with suppress(BlockingIOError):
            received.extend(ends.other.recv(4096))
        return len(received) >= len(packed(FRAME, FRAME[:14]))

    ends.until(all_there)
    assert received == packed(FRAME, FRAME[:14])
    assert ends.frames.last == FRAME[:14]


def test_a_read_may_end_anywhere(ends):
    """In the middle of a length, and of a frame: one octet more each time."""
    for octet in packed(FRAME, FRAME):
        ends.other.send(bytes((octet,)))
        ends.until(lambda: not _readable(ends.sock))
    ends.until(lambda: len(ends.got) == 2)
    assert ends.got == [FRAME, FRAME]


def _readable(sock):
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


def test_a_full_socket_makes_the_port_busy_and_loses_nothing(ends):
    large = bytes(60_000)
    count = 100
    with ends.loop:
        for _ in range(count):
            ends.inbox.send(large)
    ends.until(lambda: ends.inbox.busy)
    received = bytearray()

    def all_there():
        with suppress(BlockingIOError):
            received.extend(ends.other.recv(1 << 20))
        return len(received) == count * (LENGTH.size + len(large))

    ends.until(all_there)
    assert received == packed(large) * count


def test_nothing_is_read_while_the_peer_is_busy(ends):
    ends.willing = False
    ends.other.send(packed(FRAME))
    ends.until(lambda: ends.port.busy)
    ends.other.send(packed(FRAME[::-1]))
    ends.until(lambda: ends.frames._paused)
    ends.willing = True
    with ends.loop:
        ends.inbox.flush()
    ends.until(lambda: len(ends.got) == 2)
    assert ends.got == [FRAME, FRAME[::-1]]


@pytest.mark.parametrize("length", [0, MAX_FRAME + 1, 0xFFFFFFFF])
def test_a_length_that_no_frame_has_ends_the_stream(ends, length):
    ends.other.send(packed(FRAME) + LENGTH.pack(length))
    ends.until(lambda: ends.gone)
    assert ends.gone == [errno.EPROTO]
    ends.until(lambda: ends.got == [FRAME])


def test_the_other_end_closes(ends):
    ends.other.close()
    ends.until(lambda: ends.gone)
    assert ends.gone == [0]
    with ends.loop:
        ends.inbox.send(FRAME)
    ends.until(lambda: ends.port.counters["dropped-no-descriptor"] == 1)


def test_what_is_shorter_than_its_header_is_no_frame(ends):
    with ends.loop:
        ends.inbox.send(FRAME[:13])
    ends.until(lambda: ends.port.counters["dropped-runt"] == 1)
