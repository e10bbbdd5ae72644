"""A program of ours: started in a session of its own, and gone with all its helpers when it is closed.

If the test's process dies first, the kernel sends the program SIGTERM (prctl(2), PR_SET_PDEATHSIG, through setpriv(1)). It does so
when the thread that started the program ends: start guests in a thread that outlives them. A program need not obey, and its helpers
hear nothing, so a shell waits for the end of a pipe that only we hold: that is our death, and it kills the whole group then.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from netemu.errors import LocalError

__all__ = ["ProcessGroup", "die_with_us"]

_GRACE = 2.0  # seconds between SIGTERM and SIGKILL
_HEIR = ("/bin/sh", "-c", 'read -r done || kill -KILL -- "-$1"', "heir")  # told of a good end by a line, of our death by none


def die_with_us(arguments: Sequence[str | Path]) -> list[str | Path]:
    """`arguments`, changed so that the program is told to end when the thread that starts it ends."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise LocalError("setpriv is not in PATH: install the Debian package util-linux")
    return [setpriv, "--pdeathsig", "TERM", "--", *arguments]


class ProcessGroup:
    """Runs `arguments`, in `directory` if given. `pidfd` is readable once it has ended; its helpers may still live then."""

    def __init__(
        self,
        arguments: Sequence[str | Path],
        *,
        stdin: int,
        output: int,
        pass_fds: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
        directory: str | Path | None = None,
    ) -> None:
        self._process = subprocess.Popen(
            die_with_us(arguments),
            stdin=stdin,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=pass_fds,
            env=environment,
            cwd=directory,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self.pidfd = os.pidfd_open(self.pid)
        self._heir = subprocess.Popen(
            [*_HEIR, str(self.pid)], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
        self._closed = False

    def wait(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for the program's end; whether it has ended. It stays a zombie, so its id stays its own."""
        return _wait(self.pidfd, timeout)

    def close(self, grace: float = _GRACE) -> int:
        """End the program, politely for `grace` seconds, and all its group; its exit status. A second call does nothing more."""
        if not self._closed:
            self._closed = True
            self._signal(signal.SIGTERM)
            self._signal(signal.SIGCONT)  # a stopped program would not hear it
            self.wait(grace)
            self._kill_group()
            self._heir.communicate(b"\n")
            os.close(self.pidfd)
        return self._process.wait()

    def _kill_group(self) -> None:
        """A helper that outlived its parent is nobody's child we could wait for: its descriptor tells of its end."""
        helpers = list(_open_group(self.pid))
        os.killpg(self.pid, signal.SIGKILL)
        for helper in helpers:
            _wait(helper, _GRACE)
            os.close(helper)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)


def _wait(pidfd: int, timeout: float) -> bool:
    """Wait up to `timeout` seconds; whether the process has ended."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def _open_group(group: int) -> Iterator[int]:
    """Descriptors of the processes of `group` other than its leader."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != group:
            with suppress(OSError):
                after_name = (entry / "stat").read_text().rpartition(")")[2].split()  # state, parent, group ... (proc(5))
                if int(after_name[2]) == group:
                    yield os.pidfd_open(int(entry.name))
