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
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from netemu.errors import HostError
from netemu.io.place import HERE, Place

__all__ = ["Programs", "connect_path", "listen_path"]

_BACKLOG = 128
_KIND = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC


class Programs:
    """The programs that were started in `place`, a namespace say."""

    def __init__(self, place: Place = HERE) -> None:
        self._place = place
        self._running: list[subprocess.Popen[bytes]] = []

    def open(self, command: str) -> socket.socket:
        """Our end of the connection that a shell's `command` has for its standard input and output; raises `HostError`."""
        self._running = [process for process in self._running if process.poll() is None]
        try:
            ours, theirs = self._place.call(_loopback_pair)
            with theirs:
                self._running.append(self._place.start(_start, ["/bin/sh", "-c", command], theirs.fileno()))
        except OSError as error:
            raise HostError(error.errno or errno.EIO, f"start {command!r}") from None
        ours.setblocking(False)
        return ours

    def close(self) -> None:
        """Kill what is left, with its children."""
        while self._running:
            process = self._running.pop()
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, 9)
                process.wait()


def _start(command: Sequence[str | Path], stdio: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=stdio, stdout=stdio, start_new_session=True)


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
