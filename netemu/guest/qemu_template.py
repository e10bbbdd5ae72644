"""Saved machines, from which guests are copied: booted once, stopped with the agent ready, the RAM a file in memory.

    ram         what the guest's memory holds; copies map it privately
    state       everything else of the machine, as QEMU migrates it (with `x-ignore-shared`, so without the RAM)
    initramfs   QEMU wants to see it again

The first template of a machine has no NIC. One with a NIC is made from it: a copy gets the NIC plugged in, loads the driver, waits
for the link, and is saved again, in a tenth of the time of a boot. One that cannot be copied is plugged into each guest instead.

The copies' entropy differs because each has another generation number (vmgenid). A state fits the QEMU, the machine type and the
processor that it was saved on, so a template is never kept for another day (`netemu.guest.templates`).
"""

from __future__ import annotations

import errno
import hashlib
import os
import shlex
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from netemu.errors import HostError, LocalError, NetemuError, NetemuTimeoutError, PeerError
from netemu.guest import qemu_files
from netemu.guest.busybox import find_busybox
from netemu.guest.nics import Nic
from netemu.guest.qemu_machine import Accelerator, Cable, Machine, Process, plugged
from netemu.guest.shell import ConsoleShell
from netemu.guest.templates import templates
from netemu.net.loop import Loop
from netemu.wire.address import MacAddress

__all__ = ["MAC", "Template", "find_accelerator", "plug"]

MAC: Final = MacAddress("52:54:00:12:34:56")
"""The address of every template's NIC. It is QEMU's default, so that most guests need no other."""

_RAM: Final = "ram"
_STATE: Final = "state"
_INITRAMFS: Final = "initramfs"
_REFUSAL: Final = "refusal"
_KVM: Final = "/dev/kvm"
_BOOT_TIMEOUT: Final = {"tcg": 60.0, "kvm": 5.0}  # seconds; a boot takes 3, or 1
_AGENT_TIMEOUT: Final = 30.0  # seconds; a start takes 2
_PLUG_TIMEOUT: Final = 30.0  # seconds; most take 0.3, an e1000 3
_SAVE_TIMEOUT: Final = 20.0  # seconds; it takes 0.02
_PAUSE: Final = 0.005


class Template:
    """The template of `machine` with `nic`, or without one. Who asks for it first waits until it is made."""

    def __init__(self, machine: Machine, nic: Nic | None = None) -> None:
        self.machine = machine
        self.nic = nic
        if nic is not None:
            _check(machine, nic)
        self._name = f"{nic.model if nic else 'none'}-{_digest(machine)}"
        self._directory = templates().get(self._name, self._boot if nic is None else self._derive)

    def start(self, loop: Loop, cable: Cable) -> Process:
        """Run a copy."""
        return self._run(loop, self._directory / _RAM, share=False, cable=cable)

    def discard(self) -> None:
        """Copies of it do not work: have it made again."""
        templates().discard(self._name)

    def _run(self, loop: Loop, ram: Path, *, share: bool, cable: Cable = "stream") -> Process:
        place = self._directory
        arguments = self.machine.arguments(place / _INITRAMFS, ram, share=share, generation=str(uuid4()))
        if self.nic is not None:
            arguments += plugged(self.nic, MAC)
        return Process(loop, self.machine, arguments, (place / _STATE).read_bytes(), cable=cable)

    def _boot(self, place: Path) -> None:
        initramfs = place / _INITRAMFS
        initramfs.write_bytes(qemu_files.build(find_busybox(), self.machine.kernel))
        arguments = self.machine.arguments(initramfs, place / _RAM, share=True, generation=str(UUID(int=0)))
        with _private_loop() as loop, _closing(Process(loop, self.machine, arguments)) as process:
            shell = ConsoleShell(process.shell, "template", process.obituary)
            shell.wait_ready(_BOOT_TIMEOUT[self.machine.accelerator])
            remote = process.sockets()
            greeted = remote.wait_ready(_AGENT_TIMEOUT)
            remote.close()
            if not greeted:
                log = shell.evaluate(f"cat {qemu_files.AGENT_LOG}", _SAVE_TIMEOUT).output.strip()
                raise HostError(errno.EIO, f"start the agent of a guest; it said:\n{log}")
            _save(process, place / _STATE)

    def _derive(self, place: Path) -> None:
        bare = Template(self.machine)
        try:
            self._plug_into(bare, place)
        except NetemuError:
            bare.discard()
            self._plug_into(Template(self.machine), place)
        os.link(bare._directory / _INITRAMFS, place / _INITRAMFS)

    def _plug_into(self, bare: Template, place: Path) -> None:
        assert self.nic is not None
        shutil.copyfile(bare._directory / _RAM, place / _RAM)
        with _private_loop() as loop, _closing(bare._run(loop, place / _RAM, share=True)) as process:
            plug(process, ConsoleShell(process.shell, f"template of {self.nic.model}", process.obituary, ready=True), self.nic, MAC)
            _save(process, place / _STATE)


def plug(process: Process, shell: ConsoleShell, nic: Nic, mac: MacAddress) -> None:
    """Plug `nic` into a machine that has none, and wait until its link is up."""
    shell.evaluate(":", _PLUG_TIMEOUT)  # a machine that is still being restored would not notice
    process.plug(nic, mac, _PLUG_TIMEOUT)
    done = shell.evaluate(f"{qemu_files.PLUG} {' '.join(nic.modules)}", _PLUG_TIMEOUT)
    if done.status:
        raise PeerError(f"a guest's {nic.model} did not come up: {done.output.strip()}{process.obituary()}")


def find_accelerator(machine: Machine) -> Accelerator:
    """Whether KVM runs this machine: it is booted, for a /dev/kvm that opens promises nothing. Found out once a test run."""
    if not os.access(_KVM, os.R_OK | os.W_OK):
        return "tcg"
    machine = replace(machine, parameters=())

    def boot(place: Path) -> None:
        try:
            Template(replace(machine, accelerator="kvm"))
        except NetemuError as error:
            (place / _REFUSAL).write_text(str(error))

    digest = hashlib.sha256(repr(machine).encode()).hexdigest()[:16]
    return "tcg" if (templates().get(f"kvm-{digest}", boot) / _REFUSAL).exists() else "kvm"


@cache
def _digest(machine: Machine) -> str:
    """Another one whenever a state would not fit, or the guest would be another one."""
    words = machine.arguments(Path(_INITRAMFS), Path(_RAM), share=False, generation="")
    digest = hashlib.sha256(qemu_files.build(find_busybox(), machine.kernel))
    digest.update("\0".join((*machine.qemu.command, machine.qemu.version, machine.kernel.release, *words)).encode())
    return digest.hexdigest()[:16]


@cache
def _check(machine: Machine, nic: Nic) -> None:
    """`LocalError` if this QEMU or this kernel knows nothing of the NIC."""
    if not machine.qemu.has(nic.model):
        raise LocalError(f"nic={nic.model!r}: {machine.qemu} has no such device; take another NIC, or a newer QEMU")
    for module in nic.modules:
        machine.kernel.module(module)


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


@contextmanager
def _private_loop() -> Iterator[Loop]:
    """A loop that runs while the caller waits, whatever loop the caller holds."""
    from netemu.io.loop import RealLoop

    loop = RealLoop()
    try:
        yield loop
    finally:
        loop.close()


@contextmanager
def _closing(process: Process) -> Iterator[Process]:
    try:
        yield process
    finally:
        process.close()
