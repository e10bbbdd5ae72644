"""A forwarded port, as every user-mode network reports it, and QEMU's grammar for one (slirp_hostfwd in net/slirp.c).

    [tcp|udp]:[hostaddr]:hostport[-last]-[guestaddr]:guestport[-last]
    unix:/path-[guestaddr]:guestport

The protocol is TCP unless given. Host port 0, or none, lets the host choose. No guest address means the first leased one,
`dhcpstart`. Ports may be written in C's ways (`80`, `0x50`, `0120`).

QEMU knows no ranges: to it a second `-` is always a mistake, so `tcp:127.0.0.1:8000-8010-:80-90` takes nothing from its
grammar. Such a rule is one forward of several ports, the first to the first and so on; the guest's last port may be left out.

QEMU knows no IPv6 here. An IPv6 address stands in brackets on either side, as in a URI: `tcp:[::1]:0-[fec0::15]:80`. No guest
address means then the first one leased by DHCPv6, in the family of the host address. The families may differ: a guest sees a peer
of the other family as the gateway.

One default differs from QEMU's: no host address means 127.0.0.1, where QEMU binds 0.0.0.0 and so opens the guest to everyone
who reaches the host; say `tcp:0.0.0.0:2222-:22` for that.

Connections to a UNIX socket go to the guest over TCP, and it sees them come from the gateway. The last `-` ends the path. A stale
socket at the path gives way; nothing else does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, Literal, NamedTuple, cast

from netemu.errors import LocalError
from netemu.wire.address import Endpoint, IPAddress

__all__ = ["Forward", "Place", "parse_forward"]

_ADDRESS: Final = r"\[[0-9A-Fa-f:.]*\]|[^:\[\]]*"
_RULE: Final = re.compile(
    rf"(?P<protocol>[^:]*):(?P<hostaddr>{_ADDRESS}):(?P<hostport>[^:-]*)(?:-(?P<hostlast>[^:-]+))?"
    rf"-(?P<guestaddr>{_ADDRESS}):(?P<guestport>[^:-]*)(?:-(?P<guestlast>[^:-]+))?"
)
_PATH_RULE: Final = re.compile(rf"unix:(?P<path>/.+)-(?P<guestaddr>{_ADDRESS}):(?P<guestport>[^:]*)", re.DOTALL)
_GRAMMAR: Final = (
    "[tcp|udp]:[hostaddr]:hostport[-last]-[guestaddr]:guestport[-last], such as tcp:127.0.0.1:2222-:22, "
    "tcp:[::1]:0-[fec0::15]:80 or udp::8000-8010-:80-90 (no hostaddr is 127.0.0.1)"
)
_LOOPBACK: Final = IPv4Address("127.0.0.1")
_LAST_PORT: Final = 0xFFFF
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]*")
_BASES: Final = ((_DECIMAL, 10), (re.compile(r"0[xX][0-9a-fA-F]+"), 16), (re.compile(r"0[0-7]+"), 8))


class Place(NamedTuple):
    """Where guests of one family are: their network, and the first address that is leased there."""

    net: IPv4Network | IPv6Network
    first: IPAddress | None


@dataclass(frozen=True, slots=True)
class Forward:
    """Where the host listens (the real port, if 0 was asked for) and where the guest is to serve.

    `count` ports follow one another from these two on. `path` is where the host listens if that is a UNIX socket; `host` says
    nothing then.
    """

    protocol: Literal["tcp", "udp"]
    host: Endpoint
    guest: Endpoint
    path: str | None = None
    count: int = 1

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}-{self.guest}"
        if self.count == 1:
            return f"{self.protocol}:{self.host}-{self.guest}"
        more = self.count - 1
        return f"{self.protocol}:{self.host}-{self.host.port + more}-{self.guest}-{self.guest.port + more}"

    def each(self) -> Iterator[Forward]:
        """The forwards of one port that this one comes to."""
        for number in range(self.count):
            host, guest = (Endpoint(end.address, end.port + number) for end in (self.host, self.guest))
            yield replace(self, host=host, guest=guest, count=1)


def parse_forward(rule: str, places: Mapping[int, Place]) -> Forward:
    """The forward that `rule` asks for, its host port 0 where the host shall choose; raises `LocalError`.

    `places` has the guests' networks by family.
    """
    if rule.startswith("unix:"):
        return _parse_path(rule, places)
    match = _RULE.fullmatch(rule)
    if match is None or match["protocol"] not in ("tcp", "udp", ""):
        raise LocalError(f"hostfwd={rule}: give {_GRAMMAR}")
    host = _address(rule, match["hostaddr"]) or _LOOPBACK
    guest = _address(rule, match["guestaddr"]) or _first_guest(rule, host, places)
    _check_guest(rule, guest, places)
    protocol = cast("Literal['tcp', 'udp']", match["protocol"] or "tcp")
    host_port, count = _ports(rule, match["hostport"] or "0", match["hostlast"], 0)
    guest_port, guests = _ports(rule, match["guestport"], match["guestlast"], 1)
    if match["guestlast"] is not None and guests != count:
        raise LocalError(f"hostfwd={rule}: {count} ports of the host's cannot lead to {guests} of the guest's, so give as many")
    if guest_port + count - 1 > _LAST_PORT:
        raise LocalError(f"hostfwd={rule}: {count} ports from {guest_port} on are more than there are; {_LAST_PORT} is the last")
    return Forward(protocol, Endpoint(host, host_port), Endpoint(guest, guest_port), count=count)


def _parse_path(rule: str, places: Mapping[int, Place]) -> Forward:
    match = _PATH_RULE.fullmatch(rule)
    if match is None:
        raise LocalError(f"hostfwd={rule}: give unix:/path-[guestaddr]:guestport, such as unix:/run/ssh.socket-:22")
    guest = _address(rule, match["guestaddr"]) or _first_guest(rule, _LOOPBACK, places)
    _check_guest(rule, guest, places)
    return Forward("tcp", Endpoint(_LOOPBACK, 0), Endpoint(guest, _port(rule, match["guestport"], 1)), match["path"])


def _address(rule: str, text: str) -> IPAddress | None:
    bracketed = text.startswith("[")
    try:
        return (IPv6Address(text[1:-1]) if bracketed else IPv4Address(text)) if text else None
    except ValueError:
        kind = "IPv6" if bracketed else "IPv4"
        raise LocalError(f"hostfwd={rule}: {text!r} is no {kind} address; give {_GRAMMAR}") from None


def _first_guest(rule: str, host: IPAddress, places: Mapping[int, Place]) -> IPAddress:
    """The first address leased in the family of `host`, or in the only one that the network speaks."""
    place = places.get(host.version) or next(iter(places.values()))
    if place.first is None:
        raise LocalError(f"hostfwd={rule}: {place.net} has no address to lease, so name the guest's")
    return place.first


def _check_guest(rule: str, guest: IPAddress, places: Mapping[int, Place]) -> None:
    place = places.get(guest.version)
    if place is None:
        raise LocalError(f"hostfwd={rule}: the network does not speak the family of guest address {guest}")
    unusable = (place.net.network_address, place.net.broadcast_address) if guest.version == 4 else (place.net.network_address,)
    if guest not in place.net or guest in unusable:
        raise LocalError(f"hostfwd={rule}: guest address {guest} is no host of {place.net}, so nothing could answer there")


def _ports(rule: str, first: str, last: str | None, lowest: int) -> tuple[int, int]:
    """The first port of a range and how many there are; a range has no port 0, which would be any."""
    if last is None:
        return _port(rule, first, lowest), 1
    begin, end = _port(rule, first, 1), _port(rule, last, 1)
    if end < begin:
        raise LocalError(f"hostfwd={rule}: the range {first}-{last} is empty, so give the lower port first")
    return begin, end - begin + 1


def _port(rule: str, text: str, lowest: int) -> int:
    port = next((int(text, base) for pattern, base in _BASES if pattern.fullmatch(text)), -1)
    if not lowest <= port <= _LAST_PORT:
        raise LocalError(f"hostfwd={rule}: port {text!r} is not from {lowest} to {_LAST_PORT}; give {_GRAMMAR}")
    return port
