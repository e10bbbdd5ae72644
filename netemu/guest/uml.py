"""User-mode Linux as a guest: a real Linux kernel that is an ordinary process, without root, KVM or an image.

The kernel is Debian's linux.uml (package user-mode-linux), its user land an initramfs made here (`netemu.guest.initramfs`). Three
socket pairs join it to the test, so nothing has a name in any file system:

* vec0, its network interface: one frame a message (`transport=fd`), pumped into `port` by `netemu.io.framefd`;
* console 0, a shell (`netemu.guest.shell`), for `run` and for the guest's own programs;
* console 1, the channel to the agent (`netemu.guest.agent`), for sockets. The agent is started when the first socket is asked for:
  it is this very Python, which the guest sees, read-only, through hostfs.

The kernel boots while the test goes on; the first verb waits for it. Its death is an event: a process descriptor in the loop tells
of it, both consoles are shut, and who waits for the guest hears so, with what the console said last.

The boot was profiled: without `raid6_select_algo`, which measures RAID code for 0.85 s, the shell is ready after about 0.3 s.
Physical memory is a file in TMPDIR, which has to be in memory to be fast and must not be mounted noexec.
"""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

import netemu
from netemu.errors import HostError, LocalError
from netemu.guest import busybox
from netemu.guest.channel import PACE, MessagePipe
from netemu.guest.initramfs import AGENT_DESCRIPTOR, HOST_ROOT, UDHCPC_SCRIPT, open_initramfs
from netemu.guest.linux import LinuxGuest
from netemu.guest.process import ProcessGroup
from netemu.guest.protocol import CommandResult
from netemu.guest.python_files import python_command
from netemu.guest.remote import RemoteSockets
from netemu.guest.shell import ConsoleShell
from netemu.guest.templates import memory_directory
from netemu.io.framefd import FrameDescriptor
from netemu.io.watcher import READABLE, FdWatcher
from netemu.net.loop import Loop
from netemu.net.port import Port
from netemu.net.sockets import DEFAULT_TIMEOUT
from netemu.wire.address import MacAddress

__all__ = ["UmlGuest"]

_KERNEL = "linux.uml"
_PACKAGE = "user-mode-linux"  # Debian's name
_INTERFACE = "vec0"
_BOOT_TIMEOUT = 60.0  # seconds; a boot takes 0.3
_AGENT_TIMEOUT = 30.0  # seconds; a start takes 0.5
_AGENT_LOG = "/tmp/agent.log"  # inside the guest

_FIXED_PARAMETERS = (
    "root=/dev/ram0",
    "rdinit=/init",
    "con=null",
    "con0=fd:0,fd:1",
    "loglevel=2",  # emergencies and alerts: what explains a death
    "initcall_blacklist=raid6_select_algo",
    "noreboot",
    "panic=-1",  # end at once
)

_SETUP = f"""
echo '0 2147483647' >/proc/sys/net/ipv4/ping_group_range
ip link set lo up
ip link set {_INTERFACE} up
"""


class UmlGuest(LinuxGuest):
    """A User-mode Linux guest. `kernel` is the program, `memory` its RAM in MiB; `parameters` go to the kernel's command line.

    `getrandbits` is not used: the kernel draws its own random numbers. A missing program is a `LocalError`.
    """

    kind = "uml"

    def __init__(
        self,
        loop: Loop,
        name: str,
        mac: MacAddress,
        *,
        getrandbits: Callable[[int], int] | None = None,  # noqa: ARG002 - every kind of guest is made alike
        kernel: str = _KERNEL,
        memory: int = 64,
        parameters: Sequence[str] = (),
    ) -> None:
        self.need_real_time(loop, name)
        reason = self.probe(kernel)
        if reason is not None:
            raise LocalError(f"guest {name}: {reason}")
        super().__init__(loop, name, mac, Port(loop, name), _INTERFACE, UDHCPC_SCRIPT)
        self._directory = tempfile.mkdtemp(prefix="netemu-uml-")
        self._console, console = socket.socketpair()
        self._channel, channel = socket.socketpair()
        self._wire, wire = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._wire.setblocking(False)
        self._shell = ConsoleShell(self._console, name)
        self._remote: RemoteSockets | None = None
        self._booted = self._closed = False
        initramfs = open_initramfs(busybox.find_busybox())
        arguments = [
            kernel,
            f"mem={memory}M",
            f"initrd=/dev/fd/{initramfs.fileno()}",
            f"uml_dir={self._directory}",
            f"con1=fd:{channel.fileno()},fd:{channel.fileno()}",
            f"{_INTERFACE}:transport=fd,fd={wire.fileno()},mac={mac}",
            *_FIXED_PARAMETERS,
            *parameters,
        ]
        with console, channel, wire, initramfs:
            self._process = ProcessGroup(
                arguments,
                stdin=console.fileno(),
                output=console.fileno(),
                pass_fds=(channel.fileno(), wire.fileno(), initramfs.fileno()),
                environment={"TMPDIR": memory_directory(), "HOME": self._directory, "PATH": os.defpath},
            )
        with loop:
            self._watcher = FdWatcher(loop)
            self._frames = FrameDescriptor(self._watcher, self._wire.fileno(), self.port, lambda _errno: None)
            self._watcher.watch(self._process.pidfd, READABLE, lambda _events: self._ended())

    @classmethod
    def probe(cls, kernel: str = _KERNEL) -> str | None:
        """Why this guest cannot run here, in one sentence; None if it can."""
        if shutil.which(kernel) is None:
            return f"{kernel} is not in PATH: install the Debian package {_PACKAGE}"
        return busybox.probe(static=True)

    @classmethod
    def version(cls, kernel: str = _KERNEL) -> str:
        """The kernel's release, such as 6.1.176; it does not boot to say it."""
        return subprocess.run([kernel, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    @property
    def pid(self) -> int:
        """The kernel's process."""
        return self._process.pid

    def run(self, command: str, *, timeout: float = DEFAULT_TIMEOUT) -> CommandResult:
        """Run `command` in the guest's BusyBox shell. The first verb also waits for the boot, beyond `timeout`."""
        self._boot()
        return self._shell.run(command, timeout)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        with self._loop:
            if self._remote is not None:
                self._remote.close()
            self._frames.close()
            self._watcher.close()
            self.port.disconnect()
        self._process.close()
        for end in (self._console, self._channel, self._wire):
            end.close()
        self._remove_directory()

    def _remove_directory(self) -> None:
        """The kernel's pid file and its management console lie there; neither is used."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def _script(self, script: str, timeout: float) -> CommandResult:
        return self.run(script, timeout=timeout)

    def _set_nameservers(self, addresses: Sequence[IPv4Address]) -> None:
        lines = "".join(f"nameserver {address}\n" for address in addresses)
        self.run(f"echo -n {shlex.quote(lines)} >/etc/resolv.conf")

    def _boot(self) -> None:
        if self._closed:
            raise HostError(errno.EHOSTDOWN, f"use guest {self.name}, which was closed")
        if not self._booted:
            self._shell.wait_ready(_BOOT_TIMEOUT)
            self._booted = True
            self._remove_directory()  # what the kernel has open there it keeps; so a killed test leaves nothing
            self._shell.run(_SETUP, DEFAULT_TIMEOUT)

    def _sockets(self) -> RemoteSockets:
        self._boot()
        if self._remote is None:
            self._remote = self._start_agent()
        return self._remote

    def _start_agent(self) -> RemoteSockets:
        sources = Path(netemu.__file__).resolve().parents[1]
        python = python_command("from netemu.guest.agent import run; run()", str(sources))
        descriptor = f"<&{AGENT_DESCRIPTOR} >{_AGENT_LOG} 2>&1"
        self._shell.run(f"stty raw -echo <&{AGENT_DESCRIPTOR}", DEFAULT_TIMEOUT)
        self._shell.run(f"chroot {HOST_ROOT} {shlex.join(python)} {descriptor} &", DEFAULT_TIMEOUT)
        remote = RemoteSockets(self._loop, partial(MessagePipe, self._loop, self._channel.fileno(), pace=PACE))
        if not remote.wait_ready(_AGENT_TIMEOUT):
            remote.close()
            log = self._shell.run(f"cat {_AGENT_LOG}", DEFAULT_TIMEOUT).output.strip()
            raise HostError(errno.EIO, f"start the agent of guest {self.name}; it said:\n{log}")
        return remote

    def _ended(self) -> None:
        """The kernel is gone: wake whoever waits for it."""
        self._watcher.unwatch(self._process.pidfd)
        for end in (self._console, self._channel):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
