"""The kernel under the test itself as a guest: its stack in a private network namespace, behind a TAP device.

The guest's Ethernet interface is a TAP (`netemu.io.tap`) in a namespace (`netemu.io.namespace`) that has nothing else but loopback:
what the guest sends comes out of `port` and nowhere else. Sockets are opened inside by this process and used like any host's
(`netemu.io.oshost`); commands run as processes inside. It needs CAP_NET_ADMIN and CAP_SYS_ADMIN, that is, root;
or, for any user, a kernel that lets one make user namespaces, and a /dev/net/tun that one may open.

IPv6 is the kernel's own too: `slaac` turns it off and on, so that it begins anew. While it does, RetransTimer is a twentieth of a
second and routers are asked for without delay; both are the kernel's own afterwards.

Files are the machine's own, except /etc/resolv.conf and /sys, which are the namespace's. `close` ends every process that is left
inside.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from netemu.errors import HostError, LocalError, NetemuTimeoutError
from netemu.guest import udhcpc
from netemu.guest.busybox import find_busybox
from netemu.guest.linux import CAPABILITIES, LinuxGuest
from netemu.guest.protocol import CommandResult
from netemu.io.namespace import Namespace, probe_namespace
from netemu.io.oshost import OsHost
from netemu.io.tap import TapPort
from netemu.net.loop import Loop
from netemu.net.sockets import DEFAULT_TIMEOUT
from netemu.peers.process import die_with_us
from netemu.stack.router_discovery import Slaac
from netemu.wire.address import MacAddress

__all__ = ["NetnsGuest"]

_INTERFACE = "eth0"
_EVERYBODY = (0, 2_147_483_647)  # ping_group_range
_SCRIPT_NAME = "udhcpc.script"
_TUN = Path("/dev/net/tun")
_SHELL = "/bin/sh"
_SETUP_TIMEOUT = 10.0  # seconds
_QUICK = {f"net/ipv6/neigh/{_INTERFACE}/retrans_time_ms": "50", f"net/ipv6/conf/{_INTERFACE}/router_solicitation_delay": "0"}
_IPV6_OFF = f"net/ipv6/conf/{_INTERFACE}/disable_ipv6"
_ADDRESSES6 = Path("/proc/thread-self/net/if_inet6")  # address, index, prefix length, scope, flags, name
_ROUTES6 = Path("/proc/thread-self/net/ipv6_route")  # destination, length, source, length, next hop, metric, ...
_TENTATIVE = 0x40  # IFA_F_TENTATIVE
_DUPLICATE = 0x08  # IFA_F_DADFAILED
_LINK_SCOPE = 0x20  # IFA_LINK
_POLL = 0.01  # seconds


class NetnsGuest(LinuxGuest):
    """A guest of this machine's kernel. `getrandbits` is not used: the kernel draws its own random numbers.

    Without the privilege it is a `HostError`, without busybox a `LocalError`. `namespace` is the guest's, for what a test needs
    beyond the verbs.
    """

    kind = "netns"

    def __init__(
        self,
        loop: Loop,
        name: str,
        mac: MacAddress,
        *,
        getrandbits: Callable[[int], int] | None = None,  # noqa: ARG002 - every kind of guest is made alike
    ) -> None:
        self.need_real_time(loop, name)
        self._busybox = find_busybox()
        self.namespace = Namespace(name)
        try:
            self._tap = TapPort(loop, self.namespace, _INTERFACE)
        except HostError:
            self.namespace.close()
            raise
        self._directory = Path(tempfile.mkdtemp(prefix="netemu-netns-"))
        self._closed = False
        script = self._directory / _SCRIPT_NAME
        super().__init__(loop, name, mac, self._tap.port, _INTERFACE, str(script))
        self.port.name = name
        self._host = OsHost(loop, name=name, place=self.namespace)
        script.write_text(udhcpc.SCRIPT.replace("/bin/busybox", str(self._busybox), 1))
        script.chmod(0o755)
        self.namespace.set_ping_group_range(*_EVERYBODY)
        self._set_up()

    @staticmethod
    def probe() -> str | None:
        """Why this guest cannot run here, in one sentence; None if it can."""
        try:
            find_busybox()
        except LocalError as error:
            return str(error)
        if not os.access(_TUN, os.R_OK | os.W_OK):
            return f"{_TUN} cannot be opened: load the module tun, and run as root or make it readable and writable for everybody"
        found = probe_namespace()
        return None if found.available else found.words

    @staticmethod
    def version() -> str:
        """The kernel's release, such as 6.1.0-18-amd64."""
        return os.uname().release

    @property
    def capabilities(self) -> frozenset[str]:
        return CAPABILITIES | {"slaac"}

    def slaac(self, *, timeout: float = 60.0) -> Slaac:
        """Configure IPv6 from the routers of the link, anew; returns when no address is tentative any more.

        Without a router that gives an address it is a `NetemuTimeoutError`. The name servers that routers advertise are a
        program's to use, not the kernel's.
        """
        usual = {name: self._sysctl(name) for name in _QUICK}
        self._set_sysctls(_QUICK)
        self._set_sysctls({_IPV6_OFF: "1"})
        self._set_sysctls({_IPV6_OFF: "0"})
        deadline = time.monotonic() + timeout
        try:
            while True:
                addresses = self._addresses6()
                if addresses and not any(flags & _TENTATIVE and not flags & _DUPLICATE for _, flags in addresses):
                    break
                if time.monotonic() > deadline:
                    raise NetemuTimeoutError(f"guest {self.name}: a router's advertisement did not come within {timeout:g} s")
                time.sleep(_POLL)
        finally:
            self._set_sysctls(usual)
        return Slaac(tuple(address for address, flags in addresses if not flags & _DUPLICATE), self._routers6())

    def run(self, command: str, *, timeout: float = DEFAULT_TIMEOUT) -> CommandResult:
        """Run `command` in this machine's shell, inside the namespace."""
        return self._execute([_SHELL, "-c", command], timeout)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        with self._loop:
            self._host.close()
            self._tap.close()
            self.port.disconnect()
        for pid in self._processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.namespace.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _script(self, script: str, timeout: float) -> CommandResult:
        return self._execute([self._busybox, "sh", "-c", script], timeout)

    def _sockets(self) -> OsHost:
        if self._closed:
            raise HostError(errno.EHOSTDOWN, f"use guest {self.name}, which was closed")
        return self._host

    def _set_nameservers(self, addresses: Sequence[IPv4Address]) -> None:
        self.namespace.set_nameservers(str(address) for address in addresses)

    def _set_up(self) -> None:
        """Give the interface its MAC address (it goes down meanwhile, so that its link-local address follows), and programs a
        /sys that shows this namespace, where that may be mounted.
        """
        device = self.interface
        address = f"ip link set {device} down && ip link set {device} address {self.mac} && ip link set {device} up"
        result = self._script(f"mount -t sysfs none /sys; {address}", _SETUP_TIMEOUT)
        if result.status:
            self.close()
            raise LocalError(f"guest {self.name}: the kernel refused MAC address {self.mac}: {result.output.strip()}")

    def _execute(self, arguments: Sequence[str | Path], timeout: float) -> CommandResult:
        """Output goes to a file in memory: a process left in the background may keep it open without holding us up."""
        with os.fdopen(os.memfd_create("netemu-output"), "w+b") as output:
            process = self.namespace.start(
                subprocess.Popen,
                die_with_us(arguments),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            overrun = False
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                overrun = True
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            output.seek(0)
            text = output.read().decode(errors="replace")
        if overrun:
            raise NetemuTimeoutError(
                f"guest {self.name} did not finish {arguments[-1]!r} within {timeout:g} s; it said:\n{text.strip()}"
            )
        return CommandResult(process.returncode, text)

    def _sysctl(self, name: str) -> str:
        return self.namespace.call((Path("/proc/sys") / name).read_text).strip()

    def _set_sysctls(self, values: Mapping[str, str]) -> None:
        for name, value in values.items():
            self.namespace.set_sysctl(name, value)

    def _addresses6(self) -> list[tuple[IPv6Address, int]]:
        """The addresses from routers, and their flags."""
        found = []
        for line in self.namespace.call(_ADDRESSES6.read_text).splitlines():
            address, _, _, scope, flags, name = line.split()
            if name == _INTERFACE and int(scope, 16) != _LINK_SCOPE:
                found.append((IPv6Address(bytes.fromhex(address)), int(flags, 16)))
        return found

    def _routers6(self) -> tuple[IPv6Address, ...]:
        """The next hops of default routes."""
        routes = (line.split() for line in self.namespace.call(_ROUTES6.read_text).splitlines())
        hops = (
            IPv6Address(bytes.fromhex(each[4]))
            for each in routes
            if each[9] == _INTERFACE and int(each[0], 16) == int(each[1], 16) == 0
        )
        return tuple(hop for hop in hops if not hop.is_unspecified)

    def _processes(self) -> Iterator[int]:
        """The processes inside: those that share the namespace, which is ours alone."""
        inside = os.stat(self.namespace.fd)
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with suppress(OSError):
                    if os.path.samestat(os.stat(entry / "ns" / "net"), inside):
                        yield int(entry.name)
