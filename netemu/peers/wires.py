"""The ways in which a program's frames reach us. Each is a place in its command.

| place | what stands there | frames |
|---|---|---|
| `{fd}` | the number of a connected stream socket | each behind its length, as QEMU's `-netdev stream` and passt's `--fd` have it |
| `{socket}` | a path where we listen and it connects | the same |
| `{listen}` | a path where it listens and we connect | the same |
| `{dgram}` | the number of a connected AF_UNIX datagram socket | one a message, as QEMU's `-netdev dgram` has it |
| `{seqpacket}` | a path where it listens for SOCK_SEQPACKET and we connect | one a message: slirp4netns's `bess` |
| `{tap}` | the name of a TAP that it opens | one a message |

A wire is made before the program starts, and asked to `connect` until it has.
"""

from __future__ import annotations

import errno
import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from netemu.errors import HostError, LocalError
from netemu.io.framefd import FrameDescriptor
from netemu.io.namespace import Namespace
from netemu.io.packet import has_carrier, make_persistent_tap, open_packet
from netemu.io.streamframes import StreamFrames
from netemu.io.watcher import FdWatcher
from netemu.net.port import Port

__all__ = ["MAKERS", "Frames", "Wire"]

Frames: TypeAlias = StreamFrames | FrameDescriptor

_EVERYBODY: Final = 0o777  # the program may not be root any more when it comes there
_INTERFACE: Final = "tap0"
_NOT_YET: Final = {errno.ENOENT, errno.ECONNREFUSED, errno.EAGAIN}


class Wire(ABC):
    """`word` goes into the command, `pass_fds` to the program. `close` hangs up."""

    word: str
    pass_fds: tuple[int, ...] = ()

    def __init__(self, kind: int) -> None:
        self._kind = kind
        self._open = ExitStack()

    @abstractmethod
    def connect(self) -> socket.socket | None:
        """The non-blocking socket that the frames pass, which stays the wire's to close; None: the program is not there yet."""

    def drive(self, watcher: FdWatcher, sock: socket.socket, port: Port, gone: Callable[[int], None]) -> Frames:
        """Join `sock`, which `connect` gave, to `port`."""
        if self._kind == socket.SOCK_STREAM:
            return StreamFrames(watcher, sock, port, gone)
        return FrameDescriptor(watcher, sock.fileno(), port, gone)

    def close(self) -> None:
        self._open.close()


class _Pair(Wire):
    def __init__(self, _directory: Path, _namespace: Namespace | None, kind: int) -> None:
        super().__init__(kind)
        self._ours, self._theirs = map(self._open.enter_context, socket.socketpair(socket.AF_UNIX, kind))
        self._ours.setblocking(False)
        self.word, self.pass_fds = str(self._theirs.fileno()), (self._theirs.fileno(),)

    def connect(self) -> socket.socket:
        self._theirs.close()
        return self._ours


class _Listening(Wire):
    def __init__(self, directory: Path, _namespace: Namespace | None, kind: int) -> None:
        super().__init__(kind)
        self.word = str(directory / "socket")
        self._listener = self._open.enter_context(socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK))
        self._listener.bind(self.word)
        os.chmod(self.word, _EVERYBODY)
        self._listener.listen(1)

    def connect(self) -> socket.socket | None:
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return None
        self._listener.close()  # it has one cable
        sock.setblocking(False)
        return self._open.enter_context(sock)


class _Connecting(Wire):
    def __init__(self, directory: Path, _namespace: Namespace | None, kind: int) -> None:
        super().__init__(kind)
        directory.chmod(_EVERYBODY)
        self.word = str(directory / "socket")

    def connect(self) -> socket.socket | None:
        sock = socket.socket(socket.AF_UNIX, self._kind | socket.SOCK_NONBLOCK)
        error = sock.connect_ex(self.word)
        if error:
            sock.close()
            if error not in _NOT_YET:
                raise HostError(error, f"connect to {self.word}")
            return None
        return self._open.enter_context(sock)


class _Tap(Wire):
    def __init__(self, _directory: Path, namespace: Namespace | None, kind: int) -> None:
        super().__init__(kind)
        if namespace is None:
            raise LocalError("a TAP needs a namespace of the program's own, so that nobody else sees it")
        self.word = _INTERFACE
        make_persistent_tap(namespace, _INTERFACE)
        self._sock = self._open.enter_context(open_packet(namespace, _INTERFACE))

    def connect(self) -> socket.socket | None:
        return self._sock if has_carrier(self._sock, _INTERFACE) else None


MAKERS: Final[Mapping[str, Callable[[Path, Namespace | None], Wire]]] = {
    "fd": partial(_Pair, kind=socket.SOCK_STREAM),
    "dgram": partial(_Pair, kind=socket.SOCK_DGRAM),
    "socket": partial(_Listening, kind=socket.SOCK_STREAM),
    "seqpacket": partial(_Connecting, kind=socket.SOCK_SEQPACKET),
    "listen": partial(_Connecting, kind=socket.SOCK_STREAM),
    "tap": partial(_Tap, kind=socket.SOCK_RAW),
}
"""Makes the wire of a place, given a directory for its path and the namespace in which the program runs, if it has one."""
