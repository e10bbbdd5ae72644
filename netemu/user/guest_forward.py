"""A server inside a user-mode network that is not there, and QEMU's grammar for one (slirp_guestfwd in net/slirp.c).

    [tcp]:[server]:port-target

`server` is an address of the guests' network, 0.0.2.4 in it unless given, but none that the network has another use for (the
gateway, the DNS server, the first leased address). QEMU knows no IPv6 here: such an address stands in brackets, as in
`tcp:[fec0::100]:80-tcp:[::1]:8080`. A guest's connection to it goes to the target, a new one each time:

    cmd:command     a shell's command on the host, whose standard input and output it is
    tcp:host:port   a TCP server, as the host reaches it
    unix:/path      a UNIX socket of the host's

QEMU opens other targets than `cmd:` once, when it starts. UDP is not there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from netemu.errors import LocalError
from netemu.wire.address import Endpoint, IPAddress

__all__ = ["GuestForward", "parse_guestfwd", "tcp_target"]

_ADDRESS6: Final = r"\[[0-9A-Fa-f:.]*\]"
_RULE: Final = re.compile(rf"(?:tcp)?:(?P<server>{_ADDRESS6}|[^:-]*):(?P<port>[0-9]{{1,5}})(?:-(?P<target>.+))?", re.DOTALL)
_TCP: Final = re.compile(rf"tcp:(?P<host>{_ADDRESS6}|[0-9.]+):(?P<port>[0-9]{{1,5}})")
_OTHERS: Final = re.compile(r"cmd:.+|unix:/.+", re.DOTALL)
_GRAMMAR: Final = (
    "[tcp]:[server]:port-target, such as tcp:10.0.2.100:80-cmd:cat, with the target cmd:command, tcp:host:port or unix:/path"
)
_DEFAULT_SERVER: Final = 0x0204  # or-ed to net (slirp_add_exec)


@dataclass(frozen=True, slots=True)
class GuestForward:
    """Where guests connect to, and what serves them there; `target` is "" for a Python callable."""

    server: Endpoint
    target: str

    def __str__(self) -> str:
        return f"tcp:{self.server}-{self.target}"


def parse_guestfwd(rule: str, net: IPv4Network, net6: IPv6Network, *, callable_target: bool = False) -> GuestForward:
    """The server that `rule` asks for in one of the guests' networks; raises `LocalError`.

    With a `callable_target` the rule ends behind the port.
    """
    match = _RULE.fullmatch(rule)
    if match is None or (match["target"] is None) is not callable_target:
        raise LocalError(f"guestfwd={rule}: give {_GRAMMAR}")
    default = IPv4Address(int(net.network_address) | _DEFAULT_SERVER & int(net.hostmask))
    address = _address(rule, match["server"]) or default
    link = net if address.version == 4 else net6
    unusable = (net.network_address, net.broadcast_address, net6.network_address)
    if address not in link or address in unusable:
        raise LocalError(f"guestfwd={rule}: {address} is no address of a host in {link}, so no guest would look for it there")
    server = Endpoint(address, _port(rule, match["port"]))
    target = match["target"] or ""
    if target and tcp_target(rule, target) is None and not _OTHERS.fullmatch(target):
        raise LocalError(f"guestfwd={rule}: {target!r} is no target; give {_GRAMMAR}")
    return GuestForward(server, target)


def tcp_target(rule: str, target: str) -> Endpoint | None:
    """The endpoint that a target `tcp:host:port` means, None for another one; raises `LocalError`."""
    match = _TCP.fullmatch(target)
    address = _address(rule, match["host"]) if match else None
    return Endpoint(address, _port(rule, match["port"])) if match and address else None


def _address(rule: str, text: str) -> IPAddress | None:
    bracketed = text.startswith("[")
    try:
        return (IPv6Address(text[1:-1]) if bracketed else IPv4Address(text)) if text else None
    except ValueError:
        kind = "IPv6" if bracketed else "IPv4"
        raise LocalError(f"guestfwd={rule}: {text!r} is no {kind} address; give {_GRAMMAR}") from None


def _port(rule: str, text: str) -> int:
    if not 1 <= int(text) <= 0xFFFF:
        raise LocalError(f"guestfwd={rule}: port {text} is not from 1 to 65535; give {_GRAMMAR}")
    return int(text)
