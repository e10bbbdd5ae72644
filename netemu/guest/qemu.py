"""QEMU as a guest: Debian's kernel on any NIC model, a fresh copy of a running machine for every guest.

A guest is a copy of a template (`netemu.guest.qemu_template`), a machine that was booted once and saved with its agent ready. A
copy goes on from there within 50 ms under TCG, and shares the template's memory until it writes. What makes it a machine of its own
is done before its first command: MAC address, clock, machine id, and, by the kernel itself, its random numbers.

Socket pairs join it to the test (`netemu.guest.qemu_machine`): its NIC's cable, pumped into `port` by `netemu.io.streamframes`; a
shell (`netemu.guest.shell`) and the agent (`netemu.guest.agent`) on virtio-serial ports; the console, which is only listened to.

Its death is an event: the loop hears of it, and who waits for the guest hears so, with what the console said last. A copy that does
not come to life is taken for a broken template, which is made again, once.

Not done: more than one NIC or processor.
"""

from __future__ import annotations

import errno
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Final

from netemu.errors import HostError, LocalError, NetemuError, PeerError
from netemu.guest import busybox
from netemu.guest.initramfs import UDHCPC_SCRIPT
from netemu.guest.linux import CAPABILITIES, LinuxGuest
from netemu.guest.nics import DEFAULT_NIC, find_nic
from netemu.guest.protocol import CommandResult
from netemu.guest.qemu_files import INTERFACE, READDRESS
from netemu.guest.qemu_machine import CABLES, Cable, Machine
from netemu.guest.qemu_template import MAC, Template, find_accelerator, plug
from netemu.guest.remote import RemoteSockets
from netemu.guest.shell import ConsoleShell
from netemu.io.framefd import FrameDescriptor
from netemu.io.streamframes import StreamFrames
from netemu.io.watcher import FdWatcher
from netemu.net.loop import Loop
from netemu.net.port import Port
from netemu.net.sockets import DEFAULT_TIMEOUT
from netemu.peers.kernel import find_kernel
from netemu.peers.qemu import find_qemu
from netemu.wire.address import MacAddress

__all__ = ["QemuGuest"]

_KERNEL: Final = "kernel@trixie"
_MEMORY: Final = 256  # MiB
_RESTORE_TIMEOUT: Final = 10.0  # seconds; it takes 0.05


class QemuGuest(LinuxGuest):
    """A guest in QEMU. `qemu` and `kernel` name peers (`netemu.peers.root`), `nic` is a model of `netemu.guest.nics`.

    `memory` is its RAM in MiB; `parameters` go to the kernel's command line; with `hotplug` the NIC is plugged into the running
    guest; `cable` is the netdev it hangs on in QEMU. `getrandbits` gives its machine id; other random numbers are its kernel's own.
    What is missing here is a `LocalError`.
    """

    kind = "qemu"

    def __init__(
        self,
        loop: Loop,
        name: str,
        mac: MacAddress,
        *,
        getrandbits: Callable[[int], int],
        nic: str | None = None,
        qemu: str = "qemu",
        kernel: str = _KERNEL,
        memory: int = _MEMORY,
        parameters: Sequence[str] = (),
        hotplug: bool = False,
        cable: Cable = "stream",
    ) -> None:
        self.need_real_time(loop, name)
        model = find_nic(nic or DEFAULT_NIC)
        if cable not in CABLES:
            raise LocalError(f"cable={cable!r}: QEMU's netdev is one of {', '.join(CABLES)}")
        machine = _machine(qemu, kernel, memory, tuple(parameters))
        super().__init__(loop, name, mac, Port(loop, name), INTERFACE, UDHCPC_SCRIPT)
        self.nic = model.model
        self._unplugged = None if model.copied and not hotplug else model
        self._machine_id = f"{getrandbits(128):032x}"
        self._alive = self._closed = False
        self._remote: RemoteSockets | None = None
        self._cable = cable
        self._start(Template(machine, None if self._unplugged else model))

    @classmethod
    def probe(cls, qemu: str = "qemu", kernel: str = _KERNEL) -> str | None:
        """Why this guest cannot run here, in one sentence; None if it can."""
        try:
            find_qemu(qemu)
            find_kernel(kernel)
        except LocalError as error:
            return str(error)
        return busybox.probe(static=True)

    @classmethod
    def version(cls, qemu: str = "qemu", kernel: str = _KERNEL) -> str:
        """Which kernel on which QEMU, and how that runs it, such as `6.12.107+deb13-amd64 on QEMU 7.2.22 (tcg)`."""
        machine = _machine(qemu, kernel)
        return f"{machine.kernel.release} on {machine.qemu} ({machine.accelerator})"

    @property
    def capabilities(self) -> frozenset[str]:
        return CAPABILITIES | {"nic"}

    @property
    def pid(self) -> int:
        """QEMU's process."""
        return self._process.pid

    @property
    def console(self) -> str:
        """What the guest's console said last."""
        with self._loop:
            return self._process.console.text

    def run(self, command: str, *, timeout: float = DEFAULT_TIMEOUT) -> CommandResult:
        """Run `command` in the guest's BusyBox shell. The first verb also waits until the guest is alive, beyond `timeout`."""
        self._come_alive()
        return self._shell.run(command, timeout)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        with self._loop:
            self._stop()
            self.port.disconnect()

    def _start(self, template: Template) -> None:
        self._template = template
        self._process = template.start(self._loop, self._cable)
        self._shell = ConsoleShell(self._process.shell, self.name, self._process.obituary, ready=True)
        with self._loop:
            self._process.wire.setblocking(False)
            self._watcher = FdWatcher(self._loop)
            wire = self._process.wire
            if self._cable == "stream":
                self._frames: StreamFrames | FrameDescriptor = StreamFrames(self._watcher, wire, self.port, _gone)
            else:
                self._frames = FrameDescriptor(self._watcher, wire.fileno(), self.port, _gone)

    def _stop(self) -> None:
        if self._remote is not None:
            self._remote.close()
        self._frames.close()
        self._watcher.close()
        self._process.close()

    def _come_alive(self) -> None:
        if self._closed:
            raise HostError(errno.EHOSTDOWN, f"use guest {self.name}, which was closed")
        if self._alive:
            return
        try:
            self._become_itself()
        except NetemuError:
            self._template.discard()
            self._stop()
            self._start(Template(self._template.machine, self._template.nic))
            self._become_itself()
        self._alive = True

    def _become_itself(self) -> None:
        self._process.monitor.settle(_RESTORE_TIMEOUT)
        self._shell.evaluate(":", _RESTORE_TIMEOUT)  # shows whether it lives
        steps = [f"date -s @{time.time():.0f} >/dev/null", f"echo {self._machine_id} >/etc/machine-id"]
        if self._unplugged is not None:
            plug(self._process, self._shell, self._unplugged, self.mac)
        elif self.mac != MAC:
            steps.append(f"{READDRESS} {self.mac}")
        steps.append(f"echo 0 >/proc/sys/net/ipv6/conf/{INTERFACE}/disable_ipv6")
        result = self._shell.evaluate("; ".join(steps), _RESTORE_TIMEOUT)
        if result.output:
            raise PeerError(f"guest {self.name} did not become a machine of its own: {result.output.strip()}")

    def _script(self, script: str, timeout: float) -> CommandResult:
        return self.run(script, timeout=timeout)

    def _set_nameservers(self, addresses: Sequence[IPv4Address]) -> None:
        lines = "".join(f"nameserver {address}\n" for address in addresses)
        self.run(f"echo -n {shlex.quote(lines)} >/etc/resolv.conf")

    def _sockets(self) -> RemoteSockets:
        self._come_alive()
        if self._remote is None:
            self._remote = self._process.sockets(ready=True)
        return self._remote


def _gone(_errno: int) -> None:
    """The end of the cable; that of the process tells more."""


def _machine(qemu: str, kernel: str, memory: int = _MEMORY, parameters: tuple[str, ...] = ()) -> Machine:
    """With the accelerator that can run it."""
    machine = Machine(find_qemu(qemu), find_kernel(kernel), memory, "tcg", parameters)
    return replace(machine, accelerator=find_accelerator(machine))
