"""A machine without a disk: QEMU's, emulated in software, which boots from its network card's iPXE (Debian's ipxe-qemu).

Its network is `-netdev stream` over a socket pair, so its frames come out of a port of ours and nowhere else. SeaBIOS and iPXE
write to the serial console, which ends when the machine does: it may not reboot, and reboots when there is nothing to boot from.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path
from threading import Timer
from typing import Self

from netemu.io.streamframes import StreamFrames
from netemu.io.watcher import FdWatcher
from netemu.net.port import Port
from netemu.network import Network

PROGRAM = "qemu-system-x86_64"
ROMS = Path("/usr/lib/ipxe/qemu")


def probe() -> str | None:
    """Why no machine boots here, or None."""
    if shutil.which(PROGRAM) is None:
        return f"{PROGRAM} is not in PATH: install the Debian package qemu-system-x86"
    return None if ROMS.is_dir() else f"there is no {ROMS}: install the Debian package ipxe-qemu"


class IpxeMachine:
    """A machine with a network card of QEMU's `model` at `mac`; it runs from now on, joined to nothing yet by its `port`."""

    def __init__(self, network: Network, model: str, mac: str) -> None:
        with ExitStack() as made:
            ours, theirs = map(made.enter_context, socket.socketpair())
            ours.setblocking(False)
            with network.loop:
                watcher = FdWatcher(network.loop)
                made.callback(watcher.close)
                self.port = Port(network.loop, model)
                made.callback(StreamFrames(watcher, ours, self.port, lambda _errno: None).close)
            self._process = subprocess.Popen(
                [
                    PROGRAM,
                    *("-nodefaults", "-no-user-config", "-no-reboot", "-accel", "tcg", "-machine", "pc,graphics=off", "-m", "64"),
                    *("-display", "none", "-serial", "stdio", "-boot", "order=n,reboot-timeout=1"),
                    *("-netdev", f"stream,id=net0,server=off,addr.type=fd,addr.str={theirs.fileno()}"),
                    *("-device", f"{model},netdev=net0,mac={mac}"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
            )
            theirs.close()
            made.callback(self._end)
            self._made = made.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._made.close()

    def console(self, last: str, limit: float) -> str:
        """What the console says up to the line `last`, or to the machine's end, which comes after `limit` seconds at the latest."""
        assert self._process.stdout is not None
        said = []
        timer = Timer(limit, self._process.kill)
        timer.start()
        try:
            for line in self._process.stdout:
                said.append(line.decode(errors="replace").rstrip())
                if said[-1] == last:
                    break
        finally:
            timer.cancel()
            timer.join()
        return "\n".join(said)

    def _end(self) -> None:
        self._process.kill()
        self._process.communicate()
