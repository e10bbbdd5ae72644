"""What every guest with a Linux kernel does the same way, wherever that kernel runs.

A `LinuxGuest` has two ways in. Scripts for BusyBox's shell (`_script`) do what a machine's own programs do: lease with udhcpc,
resolve with nslookup, set addresses with ip. Sockets of the guest's kernel do what a test needs to hold in its hands: TCP, UDP and
pings (`netemu.guest.socketguest`). A kind of guest supplies these two, `run` for the user's own commands, and its power switch.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Interface

from netemu.errors import LocalError, NetemuTimeoutError
from netemu.guest import nslookup, udhcpc
from netemu.guest.protocol import CommandResult, Lease
from netemu.guest.socketguest import SocketGuest
from netemu.io.watcher import DescriptorLoop
from netemu.net.loop import Loop
from netemu.net.port import Port
from netemu.net.sockets import DEFAULT_TIMEOUT, Address, endpoint
from netemu.wire.address import MacAddress

__all__ = ["CAPABILITIES", "LinuxGuest"]

CAPABILITIES = frozenset({"dhcp4", "ping", "resolve", "tcp.connect", "tcp.listen", "tcp.half-close", "udp", "run"})

_ANY = IPv4Address(0)
_GRACE = 5.0  # seconds beyond a program's own time-out until it is called hung
_SETUP_TIMEOUT = 10.0


class LinuxGuest(SocketGuest):
    """A guest with a kernel of its own behind `port`, called `interface` inside."""

    def __init__(self, loop: Loop, name: str, mac: MacAddress, port: Port, interface: str, udhcpc_script: str) -> None:
        super().__init__(loop, name, mac, port)
        self.interface = interface
        self.lease: Lease | None = None
        self._udhcpc_script = udhcpc_script

    @staticmethod
    def need_real_time(loop: Loop, name: str) -> None:
        """`LocalError` unless `loop` lives in real time."""
        if not isinstance(loop, DescriptorLoop):
            raise LocalError(f'guest {name}: a Linux kernel lives in real time; make the network with clock="real"')

    @property
    def capabilities(self) -> frozenset[str]:
        return CAPABILITIES

    def configure(self, address: Address, prefix_length: int, router: Address | None = None) -> None:
        """Set a static address instead of leasing one."""
        try:
            interface = IPv4Interface((str(address), prefix_length))
            gateway = None if router is None else IPv4Address(router)
        except ValueError as error:
            raise LocalError(f"configure {self.name}: {error}; give an IPv4 address and a prefix length of 0 to 32") from None
        device = self.interface
        steps = [f"ip addr flush dev {device}", f"ip addr add {interface.with_prefixlen} dev {device}"]
        if gateway is not None:
            steps.append(f"ip route add default via {gateway} dev {device}")
        result = self._script(" && ".join(steps), _SETUP_TIMEOUT)
        if result.status:
            raise LocalError(f"configure {self.name}: its kernel refused {interface} via {gateway}: {result.output.strip()}")
        self.lease, self._address = None, interface.ip

    def dhcp4(self, *, timeout: float = 60.0) -> Lease:
        """Lease an address with udhcpc; no answer within `timeout` seconds is a `NetemuTimeoutError`."""
        result = self._script(self._lease_command(timeout), timeout + _GRACE)
        if result.status:
            raise NetemuTimeoutError(f"guest {self.name}: udhcpc got no lease within {timeout:g} s:\n{result.output.strip()}")
        self.lease = udhcpc.parse_lease(result.output)
        self._address = self.lease.address
        self._set_nameservers(self.lease.dns)
        return self.lease

    def resolve(self, name: str, *, server: Address | None = None, timeout: float = DEFAULT_TIMEOUT) -> list[IPv4Address]:
        """Ask `server`, or the first of the lease, for A records with nslookup; an empty list means that the name has none.

        A server's refusal is a `HostError` EIO, silence a `NetemuTimeoutError`.
        """
        servers = (endpoint(server, 0).address,) if server is not None else self.lease.dns if self.lease is not None else ()
        if not servers:
            raise LocalError(f"resolve {name!r} on {self.name}: no name server is known; lease an address, or give server=")
        return nslookup.parse(name, self._script(nslookup.command(name, servers[0], timeout), timeout + _GRACE))

    def _lease_command(self, timeout: float) -> str:
        """The script that leases an address within `timeout` seconds."""
        return udhcpc.command(self.interface, self._udhcpc_script, timeout)

    @abstractmethod
    def run(self, command: str, *, timeout: float = DEFAULT_TIMEOUT) -> CommandResult:
        """Run a shell command; standard input is empty."""

    @abstractmethod
    def close(self) -> None:
        """Power off: every process, socket and namespace of the guest is gone afterwards."""

    @abstractmethod
    def _script(self, script: str, timeout: float) -> CommandResult:
        """Run `script` in BusyBox's shell, as root of the guest."""

    @abstractmethod
    def _set_nameservers(self, addresses: Sequence[IPv4Address]) -> None:
        """Write the guest's /etc/resolv.conf."""
