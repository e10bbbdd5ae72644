"""The guests and backends that netemu brings, registered like anybody's. Nothing is imported before a test needs it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from importlib import import_module
from operator import attrgetter
from typing import TYPE_CHECKING, Final, cast

import pytest

from netemu import __version__
from pytest_netemu.registry import Arm, Version

if TYPE_CHECKING:
    from netemu.guest.protocol import Guest
    from netemu.netdev.protocol import UserBackend
    from netemu.network import Network
    from netemu.peers.command import Command
    from netemu.user.options import UserOptions
    from pytest_netemu.registry import BackendRegistry, GuestRegistry

__all__ = ["own_commit", "register_backends", "register_guests", "register_program_backends", "register_programs"]

_SOCKETS: Final = frozenset({"dhcp4", "ping", "resolve", "tcp.connect", "tcp.listen", "tcp.half-close", "udp"})
_GUESTS: Final = {
    "inproc": _SOCKETS | {"slaac", "dhcp6", "ipv6", "frames", "virtual-clock"},
    "netns": _SOCKETS | {"run", "slaac"},
    "uml": _SOCKETS | {"run"},
    "uml-virtual": _SOCKETS | {"run", "virtual-clock"},
    "qemu": _SOCKETS | {"run", "nic"},
}
_KINDS: Final = {"uml-virtual": "uml"}  # where the name is not that of `Network.guest`: the clock makes the difference
_PROBES: Final = {
    "netns": "netemu.guest.netns:NetnsGuest.probe",
    "uml": "netemu.guest.uml:UmlGuest.probe",
    "uml-virtual": "netemu.guest.virtualuml:VirtualUmlGuest.probe",
    "qemu": "netemu.guest.qemu:QemuGuest.probe",
    "libslirp": "netemu.peers.libslirp:probe",
}
_PASSTS: Final = ("passt", "passt@trixie-backports")
_VERSIONS: Final = {
    "netns": "netemu.guest.netns:NetnsGuest.version",
    "uml": "netemu.guest.uml:UmlGuest.version",
    "uml-virtual": "netemu.guest.virtualuml:VirtualUmlGuest.version",
    "qemu": "netemu.guest.qemu:QemuGuest.version",
    "libslirp": "netemu.peers.libslirp:version",
}
_CAPABILITIES: Final = {
    "netemu": "netemu.netdev.protocol:BACKEND_CAPABILITIES",
    "libslirp": "netemu.peers.libslirp:CAPABILITIES",
    "passt": "netemu.peers.passt:CAPABILITIES",
}
_ARMS: Final[dict[str, Arm]] = {"netns": "kernel", "uml": "kernel", "uml-virtual": "kernel", "qemu": "kernel", "libslirp": "oracle"}


def register_guests(registry: GuestRegistry) -> None:
    for kind, capabilities in _GUESTS.items():
        registry.register(
            kind,
            partial(_guest, _KINDS.get(kind, kind)),
            capabilities=capabilities,
            probe=partial(_probe, kind),
            version=partial(_version, kind),
            arm=_ARMS.get(kind, "in-process"),
        )


def register_programs(registry: GuestRegistry, commands: Mapping[str, str]) -> None:
    """Guests that are programs of the user's, by name: with a channel (`netemu.guest.program`), or with a wire alone."""
    if commands:
        from netemu.guest.exec import SETTINGS, ExecGuest
        from netemu.guest.program import CAPABILITIES, ProgramGuest
        from netemu.peers.command import Command

        for name, command in commands.items():
            if "{channel}" in command:
                make, capabilities = partial(_program, ProgramGuest, command), CAPABILITIES
            else:
                make, capabilities = partial(_program, ExecGuest, Command.parse(command, SETTINGS)), ExecGuest.capabilities
            registry.register(name, make, capabilities=capabilities, arm="oracle")


def register_backends(registry: BackendRegistry) -> None:
    for kind, factory in (("netemu", _netemu_backend), ("libslirp", _libslirp_backend)):
        registry.register(
            kind,
            factory,
            capabilities=partial(_capabilities, kind),
            probe=partial(_probe, kind),
            version=partial(_version, kind),
            arm=_ARMS.get(kind, "in-process"),
        )
    for name in _PASSTS:
        registry.register(
            name,
            partial(_passt_backend, name),
            capabilities=partial(_capabilities, "passt"),
            probe=partial(_probe_passt, name),
            version=partial(_passt_version, name),
            arm="oracle",
        )


def register_program_backends(registry: BackendRegistry, commands: Mapping[str, str]) -> None:
    """User-mode networks that are programs of the user's (`netemu.peers.program_backend`), by name."""
    if commands:
        from netemu.peers.command import Command
        from netemu.peers.program_backend import SETTINGS, probe, read_capabilities

        for name, text in commands.items():
            command = Command.parse(text, SETTINGS)
            make = partial(_program_backend, name, command)
            registry.register(name, make, capabilities=read_capabilities(command), probe=probe, arm="oracle")


def _capabilities(name: str) -> Collection[str]:
    """What the part itself says."""
    return cast("Collection[str]", _load(_CAPABILITIES[name]))


def _probe(name: str) -> str | None:
    """What the part's own probe says; one without runs anywhere."""
    return cast("Callable[[], str | None]", _load(_PROBES[name]))() if name in _PROBES else None


def _version(name: str) -> Version:
    """A real program's is what it says; the others are netemu's own."""
    if name in _VERSIONS:
        return Version(cast("Callable[[], str]", _load(_VERSIONS[name]))())
    return Version(__version__, own_commit())


def own_commit() -> str | None:
    """The commit netemu was installed from, if pip fetched it from a repository (PEP 610)."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        origin = json.loads(distribution("pytest-netemu").read_text("direct_url.json") or "{}")
    except PackageNotFoundError:  # it runs from its sources
        return None
    return cast("str | None", origin.get("vcs_info", {}).get("commit_id"))


def _load(path: str) -> object:
    module, _, name = path.partition(":")
    return attrgetter(name)(import_module(module))


def _probe_passt(name: str) -> str | None:
    from netemu.peers.passt import probe

    return probe(name)


def _passt_version(name: str) -> Version:
    from netemu.peers.passt import version
    from netemu.peers.root import locate

    return Version(version(locate(name)))


def _guest(kind: str, network: Network, **options: object) -> Guest:
    make = cast("Callable[..., Guest]", network.guest)
    return make(kind, **options)


def _program(kind: Callable[..., Guest], command: object, network: Network, **options: object) -> Guest:
    add = cast("Callable[..., Guest]", network.add_guest)
    return add(partial(kind, command=command), **options)


def _netemu_backend(network: Network, **options: str | Sequence[str]) -> UserBackend:
    parts = (f"{key}={value}".replace(",", ",,") for key, value in _pairs(options))
    return cast("UserBackend", network.netdev(",".join(["user", *parts])))


def _libslirp_backend(network: Network, **options: str | Sequence[str]) -> UserBackend:
    """The library, with its sockets in a private namespace of its own."""
    from netemu.peers.libslirp import LibslirpBackend
    from netemu.user.options import UserOptions

    backend = LibslirpBackend(network.loop, f"libslirp{len(network.backends)}", UserOptions.from_pairs(_pairs(options)))
    network.add_backend(backend)
    return backend


def _passt_backend(name: str, network: Network, **options: str | Sequence[str]) -> UserBackend:
    """The program `name`, with its sockets in a private namespace of its own."""
    from netemu.peers.passt import PasstBackend

    return _peer_backend(network, "passt", lambda own, asked: PasstBackend(network.loop, own, asked, name), options)


def _program_backend(name: str, command: Command, network: Network, **options: str | Sequence[str]) -> UserBackend:
    """The program of `command`, with its sockets in a private namespace of its own."""
    from netemu.peers.program_backend import ProgramBackend

    return _peer_backend(network, name, lambda own, asked: ProgramBackend(network.loop, own, asked, command), options)


def _peer_backend(
    network: Network,
    name: str,
    make: Callable[[str, UserOptions], UserBackend],
    options: Mapping[str, str | Sequence[str]],
) -> UserBackend:
    """What `make` makes of an id and the options; one it has nothing for is a verdict of its own."""
    from netemu.peers.differing import UnsupportedOptionError
    from netemu.user.options import UserOptions

    try:
        backend = make(f"{name}{len(network.backends)}", UserOptions.from_pairs(_pairs(options)))
    except UnsupportedOptionError as error:
        pytest.skip(f"unsupported: {error}")
    network.add_backend(backend)
    return backend


def _pairs(options: Mapping[str, str | Sequence[str]]) -> list[tuple[str, str]]:
    """QEMU's pairs; an underscore in a Python keyword is a hyphen there (`lease_time`)."""
    given = ((key.replace("_", "-"), [value] if isinstance(value, str) else value) for key, value in options.items())
    return [(key, value) for key, values in given for value in values]
