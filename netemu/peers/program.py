"""A program of the user's at the other end of a wire: any user-mode network or network stack that speaks one of QEMU's transports.

Its command has a place for the wire (`netemu.peers.wires`). It is started in a session of its own, waited for until it is ready
(`netemu.peers.readiness`) and its wire is connected, and lives in real time from then on. It draws on no clock of ours, so the
network must be one in real time.

Its end, or the end of its wire, is a `PeerError` out of the loop, with what it wrote last. `close` ends it and every helper it
has started.
"""

from __future__ import annotations

import errno
import os
import select
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final, TypeVar

from netemu.errors import HostError, LocalError, PeerError
from netemu.io.namespace import Namespace
from netemu.io.place import HERE, Place
from netemu.io.watcher import READABLE, DescriptorLoop, FdWatcher
from netemu.net.loop import Loop
from netemu.net.port import Port
from netemu.peers.command import Command, fill
from netemu.peers.process import ProcessGroup
from netemu.peers.readiness import FIRST_FRAME, condition
from netemu.peers.wires import MAKERS

__all__ = ["PATIENCE", "Program"]

PATIENCE: Final = 10.0
"""Seconds of real time that a program has to be ready."""

_PAUSE: Final = 0.005  # seconds between two looks at a program that is not ready
_SHOWN: Final = 300  # characters of what it wrote last
_EVERYBODY: Final = 0o755  # the program may not be root any more when it comes there

_R = TypeVar("_R")


class Program:
    """Starts `command`, filled with `values` and its wire, in `namespace` if it has one; `port` is where its frames pass.

    `what` it is called in errors. A program that cannot be started is a `LocalError`; one that ends, or is not ready within
    `patience` seconds, a `HostError` with what it wrote.
    """

    def __init__(
        self,
        loop: Loop,
        what: str,
        command: Command,
        values: Mapping[str, object],
        *,
        namespace: Namespace | None = None,
        patience: float = PATIENCE,
    ) -> None:
        if not isinstance(loop, DescriptorLoop):
            raise LocalError(f'{what} lives in real time, and this network does not: make it with clock="real"')
        self.what = what
        self._loop = loop
        self._command = command
        self._place: Place = namespace or HERE
        self._deadline = time.monotonic() + patience
        self._over = False
        with ExitStack() as made:
            directory = Path(tempfile.mkdtemp(prefix="netemu-exec-"))
            made.callback(shutil.rmtree, directory, ignore_errors=True)
            directory.chmod(_EVERYBODY)
            self._output = made.enter_context(tempfile.TemporaryFile())
            wire = MAKERS[command.wire](directory, namespace)
            made.callback(wire.close)
            places = {**values, command.wire: wire.word}
            wait = fill(command.settings.get("wait", ""), places)
            ready = condition(wait, self._read_output, self._place) if wait not in ("", FIRST_FRAME) else None
            self._process = self._start(command.fill(places), wire.pass_fds)
            made.callback(self._process.close)
            if ready is not None:
                self._wait_for(lambda: ready() or None, f"was not ready ({wait})")
            sock = self._wait_for(wire.connect, f"did not take up {{{command.wire}}}")
            if wait == FIRST_FRAME:
                self._wait_for(lambda: _readable(sock) or None, "sent no frame")
            with loop:
                self.port = Port(loop, what)
                made.callback(self.port.disconnect)
                self._watcher = FdWatcher(loop)
                made.callback(self._watcher.close)
                made.callback(wire.drive(self._watcher, sock, self.port, self._hung_up).close)
                self._watcher.watch(self._process.pidfd, READABLE, lambda _events: self._end("ended"))
            self._made = made.pop_all()

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        """End it and every process it started. A second call does nothing."""
        self._over = True
        with self._loop:
            self._made.close()

    def _start(self, words: list[str], pass_fds: tuple[int, ...]) -> ProcessGroup:
        with open(os.devnull, "rb") as nothing:
            return self._place.start(ProcessGroup, words, stdin=nothing.fileno(), output=self._output.fileno(), pass_fds=pass_fds)

    def _wait_for(self, look: Callable[[], _R | None], failure: str) -> _R:
        """What `look` gives when it gives something."""
        while (found := look()) is None:
            if self._process.wait(_PAUSE):
                raise HostError(errno.EIO, f"start {self.what}, which {self._fate()}")
            if time.monotonic() > self._deadline:
                raise HostError(errno.ETIMEDOUT, f"start {self.what}, which {failure} in time and {self._words()}")
        return found

    def _hung_up(self, _error: int) -> None:
        self._end("hung up")

    def _end(self, what: str) -> None:
        if self._over:
            return
        self._over = True
        self._watcher.unwatch(self._process.pidfd)
        fate = self._fate()
        raise PeerError(f"{self.what} {fate}" if what == "ended" else f"{self.what} {what}; it {fate}")

    def _fate(self) -> str:
        status = self._process.close()
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        return f"ended with {how} and {self._words()}"

    def _words(self) -> str:
        return f"wrote {self._read_output().strip()[-_SHOWN:]!r}"

    def _read_output(self) -> str:
        """All that it wrote so far, wherever its own place in the file is."""
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode(errors="replace")


def _readable(sock: socket.socket) -> bool:
    return bool(select.select([sock], [], [], 0)[0])
