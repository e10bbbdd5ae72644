"""A program of the user's as a guest without verbs: a machine of its own behind one of QEMU's transports, in real time.

    exec:address=10.0.2.15 ./mystack --fd {fd} --mac {mac}
    exec:qemu-system-x86_64 -netdev stream,id=n,server=off,addr.type=unix,addr.path={socket} -device e1000,netdev=n,mac={mac}

Nothing asks it to do anything: it sends what it sends, and tests look at its frames and send it theirs (ping it from another
guest). `address` is only what it is known to use. A stack that has to be driven is a `netemu.guest.program`.

With `{tap}` it runs in a private namespace, and netemu needs the right to make one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from ipaddress import IPv4Address
from typing import Final, Never

from netemu.errors import LocalError
from netemu.guest.protocol import CommandResult, Lease, PingResult, require
from netemu.io.namespace import Namespace
from netemu.net.loop import Loop
from netemu.net.sockets import DEFAULT_TIMEOUT, Address, Datagram, Listener, Stream
from netemu.peers.command import Command
from netemu.peers.program import PATIENCE, Program
from netemu.wire.address import IPAddress, MacAddress

__all__ = ["SETTINGS", "ExecGuest"]

SETTINGS: Final = ("wait", "address")
"""What may stand before the program: when it is ready, and the address that it uses."""

_NEEDS_NAMESPACE: Final = {"tap"}


class ExecGuest:
    """Runs `command` (`netemu.peers.command`), whose places are its wire, `{mac}` and `{name}`; `address=` says which it uses."""

    kind = "exec"
    capabilities: frozenset[str] = frozenset()

    def __init__(
        self,
        loop: Loop,
        name: str,
        mac: MacAddress,
        *,
        command: str | Sequence[str] | Command,
        patience: float = PATIENCE,
        getrandbits: Callable[[int], int] | None = None,  # noqa: ARG002 - every kind of guest is made alike
    ) -> None:
        command = command if isinstance(command, Command) else Command.parse(command, SETTINGS)
        self.name = name
        self.mac = mac
        self._address = _read_address(command)
        with ExitStack() as made:
            namespace = made.enter_context(Namespace(name)) if command.wire in _NEEDS_NAMESPACE else None
            what = f"guest {name} ({command.words[0]})"
            values = {"mac": mac, "name": name}
            self._program = Program(loop, what, command, values, namespace=namespace, patience=patience)
            made.callback(self._program.close)
            self.port = self._program.port
            self._made = made.pop_all()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.mac} {self.address}>"

    @property
    def address(self) -> IPv4Address | None:
        """What its command says, or `configure` said."""
        return self._address

    def configure(self, address: Address, prefix_length: int, router: Address | None = None) -> None:  # noqa: ARG002 - the protocol's
        """Say which address it has; nobody can tell it."""
        if self._address != IPv4Address(address):
            raise LocalError(f"configure {self.name}: its address is {self._address}, and nobody can tell it another; say address=")

    def dhcp4(self, *, timeout: float = 60.0) -> Lease:  # noqa: ARG002 - the protocol's
        """Not there, like every verb below: a `LocalError` that says so."""
        return self._unable("dhcp4")

    def ping(
        self,
        address: Address,  # noqa: ARG002 - the protocol's
        *,
        count: int = 1,  # noqa: ARG002 - the protocol's
        size: int = 56,  # noqa: ARG002 - the protocol's
        ttl: int = 64,  # noqa: ARG002 - the protocol's
        timeout: float = DEFAULT_TIMEOUT,  # noqa: ARG002 - the protocol's
    ) -> PingResult:
        return self._unable("ping")

    def resolve(self, name: str, *, server: Address | None = None, timeout: float = DEFAULT_TIMEOUT) -> Sequence[IPAddress]:  # noqa: ARG002 - the protocol's
        return self._unable("resolve")

    def tcp_connect(self, address: Address, port: int, *, timeout: float = DEFAULT_TIMEOUT) -> Stream:  # noqa: ARG002 - the protocol's
        return self._unable("tcp.connect")

    def tcp_listen(self, port: int) -> Listener:  # noqa: ARG002 - the protocol's
        return self._unable("tcp.listen")

    def udp(self, port: int = 0) -> Datagram:  # noqa: ARG002 - the protocol's
        return self._unable("udp")

    def run(self, command: str, *, timeout: float = DEFAULT_TIMEOUT) -> CommandResult:  # noqa: ARG002 - the protocol's
        return self._unable("run")

    def _unable(self, capability: str) -> Never:
        require(self, capability)
        raise AssertionError(f"{self.kind} guests cannot do {capability!r}")

    def close(self) -> None:
        """End the program and every process it started."""
        self._made.close()


def _read_address(command: Command) -> IPv4Address | None:
    given = command.settings.get("address")
    try:
        return None if given is None else IPv4Address(given)
    except ValueError as error:
        raise LocalError(f"address={given}: {error}; give an IPv4 address") from None
