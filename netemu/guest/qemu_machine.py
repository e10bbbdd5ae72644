"""One QEMU process: its command line, and the sockets that join it to the test.

Everything is passed as a descriptor, so nothing but the RAM file has a name: the NIC's cable (`-netdev stream`), the console, the
two virtio-serial ports and QMP. QEMU ends with the thread that started it (`netemu.peers.process`).

The RAM is a file (`memory-backend-file`): shared, it is the file; otherwise writes are the process's own (MAP_PRIVATE), which makes
a copy of a machine cheap. A copy takes the rest of its state (the devices') from a pipe; the commands that say so are written
before QEMU runs (`netemu.peers.qmp`).
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

from netemu.errors import LocalError
from netemu.guest import qemu_files
from netemu.guest.channel import PACE, MessagePipe
from netemu.guest.console import ConsoleLog
from netemu.guest.nics import NETDEV, ROOT_PORT, Nic
from netemu.guest.remote import RemoteSockets
from netemu.io.watcher import READABLE, FdWatcher
from netemu.net.loop import Loop
from netemu.peers.kernel import Kernel
from netemu.peers.process import ProcessGroup
from netemu.peers.qemu import Qemu
from netemu.peers.qmp import Qmp
from netemu.wire.address import MacAddress

__all__ = ["CABLES", "Accelerator", "Cable", "Machine", "Process"]

Accelerator = Literal["tcg", "kvm"]
Cable = Literal["stream", "dgram"]

CABLES: Final = {
    "stream": (socket.SOCK_STREAM, f"stream,id={NETDEV},addr.type=fd,addr.str="),
    "dgram": (socket.SOCK_DGRAM, f"dgram,id={NETDEV},local.type=fd,local.str="),
}
"""QEMU's netdev types by which a NIC may be joined: the socket, and the option without the descriptor's number."""


_CPU: Final = {"tcg": "qemu64,+rdrand", "kvm": "host"}  # without RDRAND the first random number takes a second
_PARAMETERS: Final = (
    "console=ttyS0",
    "loglevel=2",  # emergencies and alerts: what explains a death
    "panic=-1",  # end at once
    "random.trust_cpu=on",
    # what takes long under TCG and is nothing to a network
    "mitigations=off",
    "rodata=off",
    "init_on_alloc=0",
    "audit=0",
    "lsm=",
    "noreplace-smp",
    "initcall_blacklist=jent_mod_init,load_system_certificate_list,bpf_dummy_struct_ops_init,bpf_tcp_ca_kfunc_init",
)
_PIPE_SIZE: Final = 1 << 20  # octets; a state has 0.4 million
_SAID: Final = 4_000  # characters of QEMU's own words that are kept


@dataclass(frozen=True, slots=True)
class Machine:
    """A kind of machine: `memory` in MiB, `parameters` for the kernel's command line."""

    qemu: Qemu
    kernel: Kernel
    memory: int
    accelerator: Accelerator
    parameters: tuple[str, ...]

    def arguments(self, initramfs: Path, ram: Path, *, share: bool, generation: str) -> list[str]:
        """QEMU's, without those of NIC and sockets. `generation` is the UUID that tells the kernel whether it is a copy."""
        size = f"{self.memory}M"
        return [
            *("-accel", self.accelerator, "-cpu", _CPU[self.accelerator], "-m", size, "-machine", "q35,memory-backend=ram"),
            *("-object", f"memory-backend-file,id=ram,size={size},mem-path={_quote(ram)},share={'on' if share else 'off'}"),
            *("-kernel", str(self.kernel.image), "-initrd", str(initramfs), "-append", " ".join((*_PARAMETERS, *self.parameters))),
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-device", f"vmgenid,guid={generation}", "-device", "virtio-serial-pci"),
            *("-device", f"pcie-root-port,id={ROOT_PORT},chassis=1"),
        ]


def _quote(path: Path) -> str:
    """A path as a value of QEMU's option syntax."""
    return str(path).replace(",", ",,")


def plugged(nic: Nic, mac: MacAddress) -> list[str]:
    """QEMU's arguments for a NIC that is there from the start."""
    return [word for device in nic.devices(mac) for word in ("-device", json.dumps(device))]


class Process:
    """Runs a machine. `wire` and `shell` are our ends of its cable and of a virtio-serial port, `console` what it said.

    With `state`, the devices' part of a saved machine, it goes on from there.
    """

    def __init__(
        self, loop: Loop, machine: Machine, arguments: Sequence[str], state: bytes | None = None, *, cable: Cable = "stream"
    ) -> None:
        self._loop = loop
        self._closed = False
        with ExitStack() as made, ExitStack() as given:

            def pair(kind: int = socket.SOCK_STREAM) -> tuple[socket.socket, int]:
                ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
                made.callback(ours.close)
                given.callback(theirs.close)
                return ours, theirs.fileno()

            kind, netdev = CABLES[cable]
            self.wire, wire = pair(kind)
            self.shell, shell = pair()
            self._agent, agent = pair()
            self._console, console = pair()
            monitor_socket, monitor = pair()
            words = [
                *("-netdev", f"{netdev}{wire}"),
                *("-chardev", f"socket,id=console,fd={console}", "-serial", "chardev:console"),
                *("-chardev", f"socket,id=monitor,fd={monitor}", "-mon", "chardev=monitor,mode=control"),
            ]
            for number, descriptor in ((qemu_files.SHELL_PORT, shell), (qemu_files.AGENT_PORT, agent)):
                words += ["-chardev", f"socket,id=port{number},fd={descriptor}"]
                words += ["-device", f"virtserialport,nr={number},chardev=port{number}"]
            descriptors = [wire, shell, agent, console, monitor]
            self.monitor = Qmp(monitor_socket)
            if state is not None:
                descriptors.append(_filled_pipe(state, given))
                words += ["-incoming", "defer"]
                self.monitor.say("migrate-set-capabilities", capabilities=[{"capability": "x-ignore-shared", "state": True}])
                self.monitor.say("migrate-set-parameters", announce_rounds=0)  # else QEMU itself sends on the wire
                self.monitor.say("migrate-incoming", uri=f"fd:{descriptors[-1]}")
            self._said = made.enter_context(os.fdopen(os.memfd_create("netemu-qemu"), "w+b"))
            self._process = ProcessGroup(
                [*machine.qemu.command, *arguments, *words],
                stdin=self._said.fileno(),
                output=self._said.fileno(),
                pass_fds=descriptors,
                environment={"PATH": os.defpath, **dict(machine.qemu.environment)},
            )
            made.callback(self._process.close)
            with loop:
                self._watcher = FdWatcher(loop)
                made.callback(self._watcher.close)
                self.console = ConsoleLog(self._watcher, self._console)
                self._watcher.watch(self._process.pidfd, READABLE, lambda _events: self._ended())
            self._made = made.pop_all()

    @property
    def pid(self) -> int:
        return self._process.pid

    def sockets(self, *, ready: bool = False) -> RemoteSockets:
        """The guest's sockets; its agent is `ready` if it has greeted somebody else."""
        return RemoteSockets(self._loop, partial(MessagePipe, self._loop, self._agent.fileno(), pace=PACE), ready=ready)

    def plug(self, nic: Nic, mac: MacAddress, timeout: float) -> None:
        """Plug a NIC into the running machine; what QEMU refuses is a `PeerError`."""
        for device in nic.devices(mac):
            self.monitor.command("device_add", timeout, **device)

    def obituary(self) -> str:
        """What the console and QEMU itself said last, for an error message; nothing where nothing was said."""
        with self._loop:
            self.console.drain()
            self._said.seek(0)
            said = {"console": self.console.text, "QEMU": self._said.read().decode(errors="replace")}
        return "".join(f"; its {who} ended with:\n{text.strip()[-_SAID:]}\n" for who, text in said.items() if text.strip())

    def close(self) -> None:
        """End QEMU, and give back every descriptor. A second call does nothing."""
        if not self._closed:
            self._closed = True
            with self._loop:
                self._made.close()

    def _ended(self) -> None:
        """QEMU is gone: wake whoever waits for it."""
        self._watcher.unwatch(self._process.pidfd)
        for end in (self.shell, self._agent):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def _filled_pipe(octets: bytes, given: ExitStack) -> int:
    """A pipe's reading end with `octets` in it, so that nobody has to feed it."""
    reader, writer = os.pipe()
    given.callback(os.close, reader)
    with os.fdopen(writer, "wb") as file:
        if fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PIPE_SIZE) < len(octets):
            raise LocalError(f"a machine's state of {len(octets)} octets is more than a pipe holds; take less memory")
        file.write(octets)
    return reader
