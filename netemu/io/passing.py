"""AF_UNIX stream sockets that carry open files beside octets (unix(7), SCM_RIGHTS).

`PassingSocket` reads no more than it is asked for, so files belong to what was read with them. `ReceivedFile` is such a file: map
it, make a socket of it, or close it.
"""

from __future__ import annotations

import array
import errno
import mmap
import os
import socket
from contextlib import suppress
from typing import Final

from netemu.errors import HostError

__all__ = ["PassingSocket", "ReceivedFile"]

_MAX_FILES: Final = 8  # with one message; the kernel closes those beyond (MSG_CTRUNC)
_FILE_NUMBER: Final = array.array("i")


class ReceivedFile:
    """A file that came over a socket; it is closed by `close`, or with the socket made of it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def map(self, length: int) -> memoryview:
        """The first `length` octets, shared with whoever has the file; `HostError` if it has not as many, or is none to map."""
        try:
            return memoryview(mmap.mmap(self._fd, length))
        except (OSError, OverflowError, ValueError) as error:
            number = error.errno if isinstance(error, OSError) else None
            raise HostError(number or errno.EINVAL, f"map {length} octets of a file that was sent") from None

    def take_socket(self) -> socket.socket:
        """The socket that it is; `HostError` if it is none."""
        fd, self._fd = self._fd, -1
        try:
            return socket.socket(fileno=fd)
        except OSError as error:
            os.close(fd)
            raise HostError(error.errno or errno.ENOTSOCK, "use a file that was sent as a socket") from None

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class PassingSocket:
    """A connected stream socket; `close` it."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self, octets: int) -> tuple[bytes, list[ReceivedFile]]:
        """Up to `octets` octets and the files that came with them; b"" once the other end has gone."""
        space = socket.CMSG_SPACE(_MAX_FILES * _FILE_NUMBER.itemsize)
        try:
            data, controls, _, _ = self._socket.recvmsg(octets, space, socket.MSG_CMSG_CLOEXEC)
        except ConnectionError:
            return b"", []
        files = []
        for level, kind, content in controls:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                numbers = array.array("i", content[: len(content) - len(content) % _FILE_NUMBER.itemsize])
                files += [ReceivedFile(number) for number in numbers]
        return data, files

    def send(self, octets: bytes) -> None:
        """Send all of `octets`; nothing happens if the other end has gone, as the next `receive` will tell."""
        with suppress(ConnectionError):
            self._socket.sendall(octets)

    def close(self) -> None:
        self._socket.close()
