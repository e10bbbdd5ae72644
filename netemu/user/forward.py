"""A forwarded port, as every user-mode network reports it, and QEMU's grammar for one (slirp_hostfwd in net/slirp.c).

    [tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport

The protocol is TCP unless given. Host port 0 lets the host choose. No guest address means the first leased one, `dhcpstart`. Ports
may be written in C's ways (`80`, `0x50`, `0120`).

One default differs from QEMU's: no host address means 127.0.0.1, where QEMU binds 0.0.0.0 and so opens the guest to everyone
who reaches the host; say `tcp:0.0.0.0:2222-:22` for that. Forwards of UNIX sockets (`unix:/path-:port`) are not there yet.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Final, Literal, cast

from netemu.errors import LocalError
from netemu.wire.address import Endpoint

__all__ = ["Forward", "parse_forward"]

_RULE: Final = re.compile(r"(?P<protocol>[^:]*):(?P<hostaddr>[^:]*):(?P<hostport>[^:-]*)-(?P<guestaddr>[^:]*):(?P<guestport>[^:]*)")
_GRAMMAR: Final = "[tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport, such as tcp:127.0.0.1:2222-:22 (no hostaddr is 127.0.0.1)"
_LOOPBACK: Final = IPv4Address("127.0.0.1")
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]*")
_BASES: Final = ((_DECIMAL, 10), (re.compile(r"0[xX][0-9a-fA-F]+"), 16), (re.compile(r"0[0-7]+"), 8))


@dataclass(frozen=True, slots=True)
class Forward:
    """Where the host listens (the real port, if 0 was asked for) and where the guest is to serve."""

    protocol: Literal["tcp", "udp"]
    host: Endpoint
    guest: Endpoint

    def __str__(self) -> str:
        return f"{self.protocol}:{self.host}-{self.guest}"


def parse_forward(rule: str, net: IPv4Network, dhcpstart: IPv4Address) -> Forward:
    """The forward that `rule` asks for, its host port 0 where the host shall choose; raises `LocalError`."""
    if rule.startswith("unix:"):
        raise LocalError(f"hostfwd={rule}: forwards of UNIX sockets are not there yet; give {_GRAMMAR}")
    match = _RULE.fullmatch(rule)
    if match is None or match["protocol"] not in ("tcp", "udp", ""):
        raise LocalError(f"hostfwd={rule}: give {_GRAMMAR}")
    guest = _address(rule, match["guestaddr"], dhcpstart)
    if guest not in net or guest in (net.network_address, net.broadcast_address):
        raise LocalError(f"hostfwd={rule}: guest address {guest} is no host of {net}, so nothing could answer there")
    protocol = cast("Literal['tcp', 'udp']", match["protocol"] or "tcp")
    host = Endpoint(_address(rule, match["hostaddr"], _LOOPBACK), _port(rule, match["hostport"], 0))
    return Forward(protocol, host, Endpoint(guest, _port(rule, match["guestport"], 1)))


def _address(rule: str, text: str, default: IPv4Address) -> IPv4Address:
    try:
        return IPv4Address(text) if text else default
    except ValueError:
        raise LocalError(f"hostfwd={rule}: {text!r} is no IPv4 address; give {_GRAMMAR}") from None


def _port(rule: str, text: str, lowest: int) -> int:
    port = next((int(text, base) for pattern, base in _BASES if pattern.fullmatch(text)), -1)
    if not lowest <= port <= 0xFFFF:
        raise LocalError(f"hostfwd={rule}: port {text!r} is not from {lowest} to 65535; give {_GRAMMAR}")
    return port
