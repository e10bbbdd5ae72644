"""A shell at the other end of a console, driven command by command.

The far end (`netemu.guest.initramfs`) says that it is ready and then evaluates line after line, without a prompt or an echo. A
command is sent as quoted words, runs in a subshell with an empty standard input, and is followed by a marker that nobody else
prints, with the exit status; whatever came before it is the command's output.

`Shell` says what is sent and understands what comes; a `Console` carries it, and knows the time. `SocketConsole` is one behind a
socket, in real time: pexpect waits for the marker.

A line is sent only when the one before it is done, and is short, because the console of User-mode Linux 6.1 goes deaf for ever
once some 3,968 octets wait in it (its line discipline throttles it, and nothing wakes it up again). So a command that overruns
its time goes on, and the next one waits for it.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from netemu.errors import HostError, LocalError, NetemuTimeoutError
from netemu.guest.initramfs import READY
from netemu.guest.protocol import CommandResult

__all__ = ["Console", "ConsoleShell", "Shell", "quote"]

_PIECE = 800  # octets of a command on one line; quoting makes four of one at worst
_READ = 65_536  # octets asked of one read
_WINDOW = 200  # octets at the end of what came in, in which the marker is looked for
_TAIL = 2_000  # characters of the console that an error shows
_PLAIN = frozenset(range(0x20, 0x7F)) - frozenset(b"'\\")


def quote(octets: bytes) -> str:
    """`octets` as one word of the shell's on one line, whatever they are (POSIX.1-2024 2.2.4, dollar-single-quotes)."""
    return "$'" + "".join(chr(octet) if octet in _PLAIN else f"\\{octet:03o}" for octet in octets) + "'"


class Console(Protocol):
    """What carries a shell's lines."""

    @property
    def unread(self) -> bytes:
        """What came and was not looked for: up to what the last `expect` found, or all there is."""
        ...

    def now(self) -> float:
        """Seconds of the guest's time."""
        ...

    def send(self, line: str) -> None:
        """Send, whether or not the guest is there."""
        ...

    def expect(self, pattern: str, timeout: float) -> re.Match[bytes] | None:
        """Wait `timeout` seconds for `pattern`; None in vain. A guest that ends is an `EOFError`."""
        ...


class SocketConsole:
    """A console behind `socket`, a connected stream socket (the caller's to close)."""

    def __init__(self, console: socket.socket) -> None:
        from pexpect.socket_pexpect import SocketSpawn

        self._spawn: SocketSpawn[bytes] = SocketSpawn(console, maxread=_READ, searchwindowsize=_WINDOW)
        self._spawn.delayafterread = None

    @property
    def unread(self) -> bytes:
        return self._spawn.before or b""

    def now(self) -> float:
        return time.monotonic()

    def send(self, line: str) -> None:
        with suppress(OSError):  # EPIPE: the guest is gone, and the console's end says how
            self._spawn.send(line.encode())

    def expect(self, pattern: str, timeout: float) -> re.Match[bytes] | None:
        import pexpect

        try:
            outcome = self._spawn.expect([pattern.encode(), pexpect.EOF, pexpect.TIMEOUT], timeout=timeout)
        except ConnectionResetError:  # it was killed before it had read what we sent
            raise EOFError from None
        if outcome == 1:
            raise EOFError
        match = self._spawn.match
        return match if isinstance(match, re.Match) else None


class Shell:
    """The shell behind `console`. `owner` is named in errors; `mark` is a word that no output has.

    What `obituary` gives is added to the error for a guest that ended or hangs. A shell that is `ready` has said so already.
    """

    def __init__(self, console: Console, owner: str, mark: str, obituary: Callable[[], str] = str, *, ready: bool = False) -> None:
        self._console = console
        self._owner = owner
        self._mark = f"netemu-{mark}"
        self._number = 0
        self._obituary = obituary
        self._awaited = "" if ready else f"{READY}()\n"
        self._doing = "booting"

    def wait_ready(self, timeout: float) -> None:
        """Until the guest has booted. A guest that ends instead is a `HostError`, one that hangs a `NetemuTimeoutError`."""
        self._wait(self._console.now() + timeout, timeout)

    def evaluate(self, line: str, timeout: float) -> CommandResult:
        """Have the shell itself evaluate a short `line`, without a process of its own, which takes 30 ms under TCG."""
        self._doing = f"evaluating {line!r}"
        status = self._line(line, self._console.now() + timeout, timeout)
        return CommandResult(status, self._output())

    def run(self, command: str, timeout: float) -> CommandResult:
        """Run `command` to its end."""
        octets = command.encode()
        if 0 in octets:
            raise LocalError(f"command {command!r}: a shell command cannot hold a zero octet")
        deadline = self._console.now() + timeout
        if self._awaited:
            self._wait(deadline, timeout)
        self._doing = f"running {command!r}"
        before = ""
        for start in range(0, max(1, len(octets)), _PIECE):
            self._line(f"netemu_command={before}{quote(octets[start : start + _PIECE])}", deadline, timeout)
            before = "$netemu_command"
        status = self._line('(eval "$netemu_command") </dev/null 2>&1', deadline, timeout)
        return CommandResult(status, self._output())

    def _output(self) -> str:
        return self._console.unread.decode(errors="replace")

    def _line(self, line: str, deadline: float, timeout: float) -> int:
        """Have `line` evaluated; its exit status."""
        self._number += 1
        marker = f"{self._mark}-{self._number}:"
        self._console.send(f'{line}; echo "{marker}$?"\n')
        self._awaited = f"{marker}([0-9]+)\n"
        return self._wait(deadline, timeout)

    def _wait(self, deadline: float, timeout: float) -> int:
        """Wait for the marker of what was sent last; the status it carries."""
        try:
            match = self._console.expect(self._awaited, max(0, deadline - self._console.now()))
        except EOFError:
            raise HostError(errno.EHOSTDOWN, f"guest {self._owner} ended, {self._doing}{self._last_words()}") from None
        if match is None:
            raise NetemuTimeoutError(f"guest {self._owner} did not finish {self._doing} within {timeout:g} s{self._last_words()}")
        self._awaited = ""
        return int(match[1] or 0)

    def _last_words(self) -> str:
        text = self._output().strip()[-_TAIL:]
        return (f"; its console ended with:\n{text}\n" if text else "") + self._obituary()


class ConsoleShell(Shell):
    """The shell behind `console`, a connected stream socket (the caller's to close)."""

    def __init__(self, console: socket.socket, owner: str, obituary: Callable[[], str] = str, *, ready: bool = False) -> None:
        super().__init__(SocketConsole(console), owner, os.urandom(6).hex(), obituary, ready=ready)
