"""passt's process: started inside a namespace, ready when this returns, and heard when it dies.

passt writes its process id (`--pid`) when its last listening socket is there. The file is a FIFO here, so that there is something
to wait for; the descriptor of the process tells of an end before that.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from netemu.errors import HostError
from netemu.io.namespace import Namespace

__all__ = ["PasstProcess"]

_PATIENCE: Final = 10  # seconds of real time for a process to begin, or to end
_SHOWN: Final = 300  # characters of what it said last
_EVERYBODY: Final = 0o755  # passt is not root any more when it comes there


class PasstProcess:
    """Runs `command` with descriptor `fd`. `HostError` with its words if it ends, or is not ready within 10 s."""

    def __init__(self, namespace: Namespace, command: Sequence[str], fd: int) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - `close` closes it
        with ExitStack() as waiting:
            directory = Path(waiting.enter_context(tempfile.TemporaryDirectory(prefix="netemu-passt-")))
            directory.chmod(_EVERYBODY)
            fifo = directory / "pid"
            os.mkfifo(fifo)
            fifo.chmod(_EVERYBODY | 0o222)
            ready = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            waiting.callback(os.close, ready)
            self._process = namespace.start(
                subprocess.Popen,
                [*command, "--pid", str(fifo)],
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=self._said,
                pass_fds=[fd],
            )
            end = os.pidfd_open(self._process.pid)
            waiting.callback(os.close, end)
            happened = select.poll()
            happened.register(ready, select.POLLIN)
            happened.register(end, select.POLLIN)
            if [descriptor for descriptor, _ in happened.poll(_PATIENCE * 1000)] != [ready]:
                self.close()
                raise HostError(errno.EIO, f"start {command[0]}, which {self.fate}")

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        """Wait for its end, which it comes to when its socket is closed; kill it if it does not. A second call does nothing."""
        if self._said.closed:
            return
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.fate = self._fate(self._process.returncode)
        self._said.close()

    def _fate(self, status: int) -> str:
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        self._said.seek(0)
        words = self._said.read().decode(errors="replace").strip()
        return f"ended with {how} and said {words[-_SHOWN:]!r}"
