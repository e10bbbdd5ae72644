"""The values of a user-mode network's options, from text to what they mean; each mistake is a `LocalError` of one sentence."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, ip_address
from typing import Final, Literal

from netemu.errors import LocalError
from netemu.wire.address import IPAddress, MacAddress

__all__ = ["HostfwdSource", "read_address", "read_boolean", "read_lease", "read_name", "read_network", "read_number", "read_route"]
__all__ += ["read_source", "read_text", "read_text_if_any"]

HostfwdSource = Literal["auto", "peer", "gateway"]

_SOURCES: Final[tuple[HostfwdSource, ...]] = ("auto", "peer", "gateway")

# The mask of a net given without one: the first row that holds the address decides (net_slirp_init).
_CLASS_MASKS: Final = (
    (IPv4Network("0.0.0.0/1"), 8),
    (IPv4Network("172.16.0.0/12"), 12),
    (IPv4Network("128.0.0.0/2"), 16),
    (IPv4Network("192.168.0.0/16"), 16),
    (IPv4Network("198.18.0.0/15"), 15),
    (IPv4Network("224.0.0.0/3"), 24),
    (IPv4Network("0.0.0.0/0"), 28),
)
_BOOLEANS: Final = {"on": True, "yes": True, "true": True, "y": True, "off": False, "no": False, "false": False, "n": False}


def read_network(key: str, value: str) -> IPv4Network:
    """`10.0.2.0/24`, `10.0.2.0/255.255.255.0`, or `10.0.2.0` with a mask by its class."""
    address, slash, _ = value.partition("/")
    try:
        if slash:
            return IPv4Network(value, strict=False)
        bare = IPv4Address(address)
    except ValueError:
        raise LocalError(f"{key}={value}: a network such as 10.0.2.0/24 or 10.0.2.0/255.255.255.0 is needed") from None
    length = next(length for block, length in _CLASS_MASKS if bare in block)
    return IPv4Network((bare, length), strict=False)


def read_address(key: str, value: str) -> IPv4Address:
    try:
        return IPv4Address(value)
    except ValueError:
        raise LocalError(f"{key}={value}: an IPv4 address such as 10.0.2.2 is needed") from None


def read_boolean(key: str, value: str) -> bool:
    if value not in _BOOLEANS:
        raise LocalError(f"{key}={value}: on or off is needed")
    return _BOOLEANS[value]


def read_number(key: str, value: str) -> int:
    if not (value.isascii() and value.isdigit()):
        raise LocalError(f"{key}={value}: a whole number is needed")
    return int(value)


def read_text(key: str, value: str) -> str:
    del key
    return value


def read_text_if_any(key: str, value: str) -> str | None:
    """As QEMU does where an empty text is as good as none."""
    del key
    return value or None


def read_source(key: str, value: str) -> HostfwdSource:
    for source in _SOURCES:
        if source == value:
            return source
    raise LocalError(f"{key}={value}: {', '.join(_SOURCES)} are allowed")


def read_lease(key: str, value: str) -> tuple[MacAddress, IPv4Address]:
    """`52:54:00:12:34:56=10.0.2.50`: who, and which address it always gets."""
    mac, _, address = value.partition("=")
    try:
        return MacAddress(mac), IPv4Address(address)
    except ValueError:
        raise LocalError(f"{key}={value}: a MAC and an IPv4 address are needed, as in 52:54:00:12:34:56=10.0.2.50") from None


def read_route(key: str, value: str) -> tuple[IPv4Network, IPv4Address]:
    """`198.51.100.0/24=10.0.2.9`: a network, and the router on this one that leads there."""
    network, _, router = value.partition("=")
    try:
        return IPv4Network(network), IPv4Address(router)
    except ValueError:
        raise LocalError(f"{key}={value}: a network and a router are needed, as in 198.51.100.0/24=10.0.2.9") from None


def read_name(key: str, value: str) -> tuple[str, IPAddress | str]:
    """`db.test=192.0.2.9`, `db.test=2001:db8::9`, `www.test=db.test`: a name, and an address it has, or what it is an alias of."""
    name, _, target = value.partition("=")
    if not (name and target):
        raise LocalError(f"{key}={value}: a name and an address or another name are needed, as in db.test=192.0.2.9")
    try:
        return name, ip_address(target)
    except ValueError:
        return name, target
