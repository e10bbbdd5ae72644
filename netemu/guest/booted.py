"""A guest that boots the initramfs of `netemu.guest.initramfs`, whatever machine its kernel runs on.

It is used through two consoles: a shell (`netemu.guest.shell`) for `run` and for the guest's own programs, and a channel to the
agent (`netemu.guest.agent`) for sockets. The agent is started when the first socket is asked for: it is this very Python, which the
guest sees, read-only, through hostfs.

The kernel boots while the test goes on; the first verb waits for it.
"""

from __future__ import annotations

import errno
import shlex
from abc import abstractmethod
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

import netemu
from netemu.errors import HostError
from netemu.guest.channel import Message, Pipe
from netemu.guest.initramfs import AGENT_DESCRIPTOR, HOST_ROOT, UDHCPC_SCRIPT
from netemu.guest.linux import LinuxGuest
from netemu.guest.protocol import CommandResult
from netemu.guest.python_files import python_command
from netemu.guest.remote import RemoteSockets
from netemu.guest.shell import Shell
from netemu.net.loop import Loop
from netemu.net.port import Port
from netemu.net.sockets import DEFAULT_TIMEOUT
from netemu.wire.address import MacAddress

__all__ = ["BootedGuest"]

_BOOT_TIMEOUT: Final = 60.0  # seconds; a boot takes 0.3 of real time and next to none of virtual time
_AGENT_TIMEOUT: Final = 30.0  # seconds; a start takes 0.5 of real time
_AGENT_LOG: Final = "/tmp/agent.log"  # inside the guest

_SETUP: Final = """
echo '0 2147483647' >/proc/sys/net/ipv4/ping_group_range
ip link set lo up
ip link set {interface} up
"""


class BootedGuest(LinuxGuest):
    """A kind of guest supplies `_shell`, made when its kernel is started, the channel of its agent, and its power switch."""

    _shell: Shell

    def __init__(self, loop: Loop, name: str, mac: MacAddress, interface: str) -> None:
        super().__init__(loop, name, mac, Port(loop, name), interface, UDHCPC_SCRIPT)
        self._remote: RemoteSockets | None = None
        self._booted = self._closed = False

    def run(self, command: str, *, timeout: float = DEFAULT_TIMEOUT) -> CommandResult:
        """Run `command` in the guest's BusyBox shell. The first verb also waits for the boot, beyond `timeout`."""
        self._boot()
        return self._shell.run(command, timeout)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            if self._remote is not None:
                self._remote.close()
            self._power_off()

    @abstractmethod
    def _power_off(self) -> None:
        """End the kernel, and leave nothing."""

    @abstractmethod
    def _open_channel(self, on_message: Callable[[Message], None], on_end: Callable[[str], None]) -> Pipe:
        """The console of the agent, as a pipe of messages."""

    def _has_booted(self) -> None:
        """The shell is there, and has done nothing yet."""

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
            self._has_booted()
            self._shell.run(_SETUP.format(interface=self.interface), DEFAULT_TIMEOUT)

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
        remote = RemoteSockets(self._loop, self._open_channel)
        if not remote.wait_ready(_AGENT_TIMEOUT):
            remote.close()
            log = self._shell.run(f"cat {_AGENT_LOG}", DEFAULT_TIMEOUT).output.strip()
            raise HostError(errno.EIO, f"start the agent of guest {self.name}; it said:\n{log}")
        return remote
