"""A saved machine, from which guests are copied: booted once, stopped with its agent ready, its RAM a file in memory.

    ram         what the guest's memory holds; copies map it privately
    state       everything else of the machine, as QEMU migrates it (with `x-ignore-shared`, so without the RAM)
    initramfs   QEMU wants to see it again

The copies' entropy differs because each has another generation number (vmgenid). A state fits the QEMU, the machine type and the
processor that it was saved on, so a template is never kept for another day (`netemu.guest.templates`).
"""

from __future__ import annotations

import hashlib
import os
import shlex
import time
from functools import partial
from pathlib import Path
from typing import Final
from uuid import UUID

from netemu.errors import HostError, LocalError, NetemuTimeoutError, PeerError
from netemu.guest import qemu_files
from netemu.guest.busybox import find_busybox
from netemu.guest.channel import PACE, MessagePipe
from netemu.guest.nics import find_nic
from netemu.guest.qemu_machine import Machine, Process
from netemu.guest.remote import RemoteSockets
from netemu.guest.shell import ConsoleShell
from netemu.guest.templates import templates

__all__ = ["Template"]

_RAM: Final = "ram"
_STATE: Final = "state"
_INITRAMFS: Final = "initramfs"
_BOOT_TIMEOUT: Final = 60.0  # seconds; a boot takes 4
_AGENT_TIMEOUT: Final = 30.0  # seconds; a start takes 2
_SAVE_TIMEOUT: Final = 20.0  # seconds; it takes 0.02
_PAUSE: Final = 0.005
_NOBODY: Final = str(UUID(int=0))


class Template:
    """The template of `machine`; the first who asks for it waits until it is made."""

    def __init__(self, machine: Machine) -> None:
        modules = find_nic(machine.nic).modules
        if machine.nic not in machine.qemu.devices():
            raise LocalError(f"nic={machine.nic!r}: {machine.qemu} has no such device; take another NIC, or a newer QEMU")
        self.machine = machine
        self._initramfs = qemu_files.build(find_busybox(), machine.kernel, modules)
        self._name = self._key()
        self._directory = templates().get(self._name, self._make)

    def arguments(self, generation: str) -> list[str]:
        """QEMU's for a copy."""
        place = self._directory
        return self.machine.arguments(place / _INITRAMFS, place / _RAM, share=False, generation=generation)

    def state(self) -> bytes:
        return (self._directory / _STATE).read_bytes()

    def discard(self) -> None:
        """Copies of it do not work: have it made again."""
        templates().discard(self._name)

    def _key(self) -> str:
        """A name that is another one whenever a state would not fit, or the guest would be another one."""
        machine = self.machine
        words = machine.arguments(Path(_INITRAMFS), Path(_RAM), share=False, generation=_NOBODY)
        digest = hashlib.sha256(self._initramfs)
        digest.update("\0".join((*machine.qemu.command, machine.qemu.version, machine.kernel.release, *words)).encode())
        return f"{machine.nic}-{digest.hexdigest()[:16]}"

    def _make(self, place: Path) -> None:
        from netemu.io.loop import RealLoop

        initramfs = place / _INITRAMFS
        initramfs.write_bytes(self._initramfs)
        arguments = self.machine.arguments(initramfs, place / _RAM, share=True, generation=_NOBODY)
        loop = RealLoop()
        process = Process(loop, self.machine, arguments)
        try:
            shell = ConsoleShell(process.shell, f"template of {self.machine.nic}", process.obituary)
            shell.wait_ready(_BOOT_TIMEOUT)
            remote = RemoteSockets(loop, partial(MessagePipe, loop, process.agent.fileno(), pace=PACE))
            greeted = remote.wait_ready(_AGENT_TIMEOUT)
            remote.close()
            if not greeted:
                log = shell.run(f"cat {qemu_files.AGENT_LOG}", _SAVE_TIMEOUT).output.strip()
                raise HostError(0, f"start the agent of a guest; it said:\n{log}")
            _save(process, place / _STATE)
        finally:
            process.close()
            loop.close()


def _save(process: Process, path: Path) -> None:
    """Migrate the machine to a file. It runs until then, and so will its copies."""
    monitor = process.monitor
    monitor.command("migrate-set-capabilities", _SAVE_TIMEOUT, capabilities=[{"capability": "x-ignore-shared", "state": True}])
    monitor.command("migrate", _SAVE_TIMEOUT, uri=f"exec:cat >{shlex.quote(os.fspath(path))}")
    deadline = time.monotonic() + _SAVE_TIMEOUT
    while (status := monitor.command("query-migrate", _SAVE_TIMEOUT).get("status")) != "completed":
        if status == "failed":
            raise PeerError(f"QEMU could not save a machine{process.obituary()}")
        if time.monotonic() > deadline:
            raise NetemuTimeoutError(f"QEMU did not save a machine within {_SAVE_TIMEOUT:g} s")
        time.sleep(_PAUSE)
