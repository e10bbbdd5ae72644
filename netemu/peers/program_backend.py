"""A user-mode network that is any program: `exec:./my-slirp --fd {fd} --net {net}`.

The program speaks one of QEMU's transports and is started in a private namespace (`netemu.peers.program`, `netemu.peers.outside`).
An option of `-netdev user` reaches it through the place of that name; what it has no place for is refused. So its addresses
are those of the options, or QEMU's defaults, which it must use if it is not told.

Not done: forwards, for each program says them in a way of its own; virtual time.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import fields
from typing import Final

from netemu.errors import LocalError
from netemu.io.host import Host
from netemu.io.namespace import probe_namespace
from netemu.net.loop import Loop
from netemu.peers.command import Command
from netemu.peers.differing import refuse_options
from netemu.peers.outside import RESOLVER, TEMPLATE, open_outside
from netemu.peers.program import PATIENCE, Program
from netemu.user.forward import Forward
from netemu.user.options import UserOptions

__all__ = ["CAPABILITIES", "OPTIONS", "SETTINGS", "ProgramBackend", "probe", "read_capabilities"]

CAPABILITIES: Final = frozenset({"arp", "dhcp4.server", "dns.forward", "icmp.echo", "nat.tcp", "nat.udp"})
"""What a program is taken to have that says nothing of itself: what every user-mode network has."""

SETTINGS: Final = ("wait", "capabilities")
"""What may stand before the program: when it is ready, and keys of `BACKEND_CAPABILITIES` with commas between them."""

OPTIONS: Final = (
    "net",
    "host",
    "dns",
    "dhcpstart",
    "ipv6_net",
    "ipv6_host",
    "ipv6_dns",
    "hostname",
    "domainname",
    "tftp",
    "tftp_server_name",
    "bootfile",
    "mtu",
    "outbound_addr",
    "outbound_addr6",
    "lease_time",
)
"""The options that have a place, by their names in `UserOptions`."""

_EVERYBODY: Final = (0, 2_147_483_647)  # ping_group_range


def probe() -> str | None:
    """Why no program can be a network here, or None."""
    namespace = probe_namespace()
    return None if namespace.available else namespace.words


class ProgramBackend:
    """Runs `command` (`netemu.peers.command`), whose places are its wire, those of `OPTIONS`, `{resolver}` and `{interface}`: the
    name server and the way out of the namespace that `host` is in.

    Options without a place in the command are an `UnsupportedOptionError`.
    """

    kind = "program"

    def __init__(
        self,
        loop: Loop,
        id: str,  # noqa: A002 - QEMU's name
        options: UserOptions,
        command: str | Sequence[str] | Command,
        *,
        patience: float = PATIENCE,
    ) -> None:
        command = command if isinstance(command, Command) else Command.parse(command, SETTINGS)
        foreign = [field.name for field in fields(options) if field.name not in command.places]
        refuse_options(foreign, options, f"command {command}")
        self.id = id
        self.capabilities = read_capabilities(command)
        self.net, self.gateway, self.dns, self.dhcpstart = options.net, options.host, options.dns, options.dhcpstart
        self.net6, self.gateway6, self.dns6 = options.ipv6_net, options.ipv6_host, options.ipv6_dns
        self.forwards: tuple[Forward, ...] = ()
        values = {name: _shown(getattr(options, name)) for name in OPTIONS}
        values |= {"resolver": RESOLVER, "interface": TEMPLATE}
        with ExitStack() as made:
            host = open_outside(made, loop, id, _EVERYBODY)
            self.host: Host = host
            what = f"program {id} ({command.words[0]})"
            self._program = Program(loop, what, command, values, namespace=host.namespace, patience=patience)
            made.callback(self._program.close)
            self.port = self._program.port
            self._made = made.pop_all()

    def add_hostfwd(self, rule: str) -> Forward:
        """Never: what its command says of forwards is not known here."""
        raise LocalError(f"hostfwd={rule}: there is no common way to tell a program of forwards; write them into its command")

    def remove_hostfwd(self, forward: Forward) -> None:
        """Never: see `add_hostfwd`."""
        raise LocalError(f"{forward}: a program keeps the forwards that its command gives it")

    def close(self) -> None:
        """End the process, and with it its sockets, its host and its namespace."""
        self._made.close()


def read_capabilities(command: Command) -> frozenset[str]:
    """What the program can do: what its command says, or `CAPABILITIES`."""
    given = command.settings.get("capabilities")
    return CAPABILITIES if given is None else frozenset(given.split(",")) - {""}


def _shown(value: object) -> object:
    return "" if value is None else value
