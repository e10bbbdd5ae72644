"""User-mode Linux as a guest: a real Linux kernel that is an ordinary process, without root, KVM or an image.

The kernel is Debian's linux.uml (package user-mode-linux), its user land an initramfs made here (`netemu.guest.initramfs`). Three
socket pairs join it to the test, so nothing has a name in any file system:

* vec0, its network interface: one frame a message (`transport=fd`), pumped into `port` by `netemu.io.framefd`;
* consoles 0 and 1, for the shell and the agent (`netemu.guest.booted`).

The kernel's death is an event: a process descriptor in the loop tells of it, both consoles are shut, and who waits for the guest
hears so, with what the console said last. This kernel lives in real time; `netemu.guest.virtualuml` is the one for a virtual clock.

The boot was profiled: without `raid6_select_algo`, which measures RAID code for 0.85 s, the shell is ready after about 0.3 s.
Physical memory is a file in TMPDIR, which has to be in memory to be fast and must not be mounted noexec.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress

from netemu.errors import LocalError
from netemu.guest import busybox
from netemu.guest.booted import BootedGuest
from netemu.guest.channel import PACE, Message, MessagePipe, Pipe
from netemu.guest.initramfs import open_initramfs
from netemu.guest.shell import ConsoleShell
from netemu.guest.templates import memory_directory
from netemu.guest.virtualuml import VirtualUmlGuest
from netemu.io.framefd import FrameDescriptor
from netemu.io.watcher import READABLE, DescriptorLoop, FdWatcher
from netemu.net.loop import Loop
from netemu.peers.process import ProcessGroup
from netemu.wire.address import MacAddress

__all__ = ["UmlGuest", "uml_guest"]

_KERNEL = "linux.uml"
_PACKAGE = "user-mode-linux"  # Debian's name
_INTERFACE = "vec0"

_FIXED_PARAMETERS = (
    "root=/dev/ram0",
    "rdinit=/init",
    "con=null",
    "con0=fd:0,fd:1",
    "shell=/dev/tty0",
    "agent=/dev/tty1",
    "loglevel=2",  # emergencies and alerts: what explains a death
    "initcall_blacklist=raid6_select_algo",
    "noreboot",
    "panic=-1",  # end at once
)


class UmlGuest(BootedGuest):
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
        super().__init__(loop, name, mac, _INTERFACE)
        self._directory = tempfile.mkdtemp(prefix="netemu-uml-")
        self._console, console = socket.socketpair()
        self._channel, channel = socket.socketpair()
        self._wire, wire = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._wire.setblocking(False)
        self._shell = ConsoleShell(self._console, name)
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

    def _power_off(self) -> None:
        with self._loop:
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

    def _has_booted(self) -> None:
        """What the kernel has open there it keeps; so a killed test leaves nothing."""
        self._remove_directory()

    def _open_channel(self, on_message: Callable[[Message], None], on_end: Callable[[str], None]) -> Pipe:
        return MessagePipe(self._loop, self._channel.fileno(), on_message, on_end, pace=PACE)

    def _ended(self) -> None:
        """The kernel is gone: wake whoever waits for it."""
        self._watcher.unwatch(self._process.pidfd)
        for end in (self._console, self._channel):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def uml_guest(loop: Loop, name: str, mac: MacAddress, *, getrandbits: Callable[[int], int]) -> UmlGuest | VirtualUmlGuest:
    """The guest for `loop`: Debian's kernel in real time, or one of `netemu peers build uml` in virtual time."""
    kind = UmlGuest if isinstance(loop, DescriptorLoop) else VirtualUmlGuest
    return kind(loop, name, mac, getrandbits=getrandbits)
