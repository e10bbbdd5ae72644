"""What a host's user network reaches without TCP: UNIX sockets, and programs that talk over their standard input and output.

A program gets one end of a TCP connection on the loopback as both, as inetd(8) gives it: some, such as smbd, want nothing else.
Standard error is the test's. It is told to end by the
end of its input; one that is still there when the host closes is killed.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

from netemu.errors import HostError

__all__ = ["Programs", "connect_path", "listen_path"]

_BACKLOG = 128
_Started: TypeAlias = tuple[socket.socket, subprocess.Popen[bytes]]
_StartIn: TypeAlias = Callable[[Callable[[], _Started]], _Started]
_KIND = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC


class Programs:
    """The programs that were started here. `start_in` calls the function that starts one, in another namespace say."""

    def __init__(self, start_in: _StartIn = lambda start: start()) -> None:
        self._start_in = start_in
        self._running: list[subprocess.Popen[bytes]] = []

    def open(self, command: str) -> socket.socket:
        """Our end of the connection that a shell's `command` has for its standard input and output; raises `HostError`."""
        self._running = [process for process in self._running if process.poll() is None]
        try:
            ours, process = self._start_in(lambda: _start(command))
        except OSError as error:
            raise HostError(error.errno or errno.EIO, f"start {command!r}") from None
        self._running.append(process)
        return ours

    def close(self) -> None:
        """Kill what is left, with its children."""
        while self._running:
            process = self._running.pop()
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, 9)
                process.wait()


def _start(command: str) -> _Started:
    ours, theirs = _loopback_pair()
    with theirs:
        stdio = theirs.fileno()
        process = subprocess.Popen(["/bin/sh", "-c", command], stdin=stdio, stdout=stdio, start_new_session=True)
    ours.setblocking(False)
    return ours, process


def _loopback_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of one TCP connection; nobody else can come between, for only our own is accepted."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        while True:
            theirs, peer = listener.accept()
            if peer == ours.getsockname():
                return ours, theirs
            theirs.close()


def connect_path(path: str) -> tuple[socket.socket, int]:
    """A socket whose `connect` to `path` was begun, and the errno that this gave."""
    sock = socket.socket(socket.AF_UNIX, _KIND)
    return sock, sock.connect_ex(path)


def listen_path(path: str) -> socket.socket:
    """A socket that listens at `path`; a socket of before gives way, anything else does not. Raises `HostError`."""
    sock = socket.socket(socket.AF_UNIX, _KIND)
    try:
        with suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                raise OSError(errno.EEXIST, "no socket")
            os.unlink(path)
        sock.bind(path)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise HostError(error.errno or errno.EIO, f"listen on {path}") from None
    return sock
