"""The options of a user-mode network, under QEMU's names, with QEMU's defaults and checks (net/slirp.c).

Every default address lies in `net`: the gateway is `net | 0.0.2.2`, the DNS server `net | 0.0.2.3`, the SMB server's address
`net | 0.0.2.4` and the first leased address `net | 0.0.2.15`, each cut to the bits that `net` leaves to hosts.

`mtu` and `lease-time` are not QEMU's: the first is libslirp's `if_mtu`, the second RFC 2131's.

Options that QEMU has and that are not there yet are refused with a sentence: `NOT_YET` lists them. `ipv4=on` and `ipv6=off` say
what is the case and are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Final, Self

from netemu.errors import LocalError
from netemu.user.forward import parse_forward
from netemu.wire.dhcpv4 import pack_domain_search
from netemu.wire.fields import ANY_IPV4

__all__ = ["NOT_YET", "POOL_SIZE", "UserOptions"]

POOL_SIZE: Final = 16  # leases from dhcpstart on, as libslirp's NB_BOOTP_CLIENTS

NOT_YET: Final = frozenset(
    {
        "bootfile",
        "guestfwd",
        "ipv6-dns",
        "ipv6-host",
        "ipv6-net",
        "ipv6-prefix",
        "ipv6-prefixlen",
        "smb",
        "smbserver",
        "tftp",
        "tftp-server-name",
    }
)
"""Options of QEMU's `-netdev user` that this network does not have yet."""

_DEFAULT_NET: Final = IPv4Network("10.0.2.0/24")
_DEFAULT_HOSTS: Final = {"host": 0x0202, "dns": 0x0203, "dhcpstart": 0x020F}  # or-ed to net (net_slirp_init)
_SMB_HOST: Final = 0x0204
_MTU: Final = range(576, 65521 + 1)  # what every host takes (RFC 1122 3.3.2), a DHCP message needs; libslirp's IF_MTU_MAX
_LEASE_TIME: Final = range(1, 0xFFFFFFFF)  # 0xffffffff would be for ever (RFC 2131 3.3)
_PREFIX_LENGTHS: Final = range(4, 30 + 1)  # QEMU takes 4 to 32, but gateway, DNS server and a guest need a /29 or a /30
_TEXT_LIMIT: Final = 255  # octets in one DHCP option (RFC 2132 2)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class UserOptions:
    """What a user-mode network is told. Raises `LocalError` for what cannot work.

    `net`: the guests' network. `host`: the gateway's address, which is also the DHCP server's. `dns`: the DNS server's.
    `dhcpstart`: the first of 16 leased addresses. 0.0.0.0 stands for the default in `net`, and is replaced by it.
    `restrict`: guests reach the gateway's services and forwarded connections, nothing else.
    `hostname`, `domainname`, `dnssearch`: DHCP options 12, 15 and 119. `hostfwd`: rules, `[tcp|udp]:[addr]:port-[addr]:port`.
    `mtu`: octets of the largest datagram sent to guests, 576..65521. `lease_time`: seconds, 1..4294967294.
    """

    net: IPv4Network = _DEFAULT_NET
    host: IPv4Address = ANY_IPV4
    dns: IPv4Address = ANY_IPV4
    dhcpstart: IPv4Address = ANY_IPV4
    restrict: bool = False
    hostname: str | None = None
    domainname: str | None = None
    dnssearch: tuple[str, ...] = ()
    hostfwd: tuple[str, ...] = ()
    mtu: int = 1500
    lease_time: int = 86_400

    def __post_init__(self) -> None:
        if self.net.prefixlen not in _PREFIX_LENGTHS:
            raise LocalError(f"net={self.net}: a prefix of 4 to 30 bits leaves room for gateway and guests")
        for name, low_bits in _DEFAULT_HOSTS.items():
            if getattr(self, name) == ANY_IPV4:
                object.__setattr__(self, name, self._in_net(low_bits))
        self._check_addresses()
        self._check_texts()
        if self.mtu not in _MTU:
            raise LocalError(f"mtu={self.mtu}: give {_MTU[0]} to {_MTU[-1]} octets")
        if self.lease_time not in _LEASE_TIME:
            raise LocalError(f"lease-time={self.lease_time}: give {_LEASE_TIME[0]} to {_LEASE_TIME[-1]} seconds")
        for rule in self.hostfwd:
            parse_forward(rule, self.net, self.dhcpstart)

    def _in_net(self, low_bits: int) -> IPv4Address:
        return IPv4Address(int(self.net.network_address) | low_bits & int(self.net.hostmask))

    def _check_addresses(self) -> None:
        unusable = (self.net.network_address, self.net.broadcast_address)
        for name, must_be_inside in (("host", True), ("dns", self.restrict), ("dhcpstart", True)):
            address = getattr(self, name)
            if address in unusable or (must_be_inside and address not in self.net):
                raise LocalError(f"{name}={address}: an address of a host in {self.net} is needed, so give {name}=")
        if len({self.host, self.dns, self.dhcpstart}) < 3:
            raise LocalError(f"host={self.host}, dns={self.dns}, dhcpstart={self.dhcpstart}: three different addresses are needed")

    def _check_texts(self) -> None:
        for name in ("hostname", "domainname"):
            text = getattr(self, name)
            if text is not None and not 0 < len(text.encode()) <= _TEXT_LIMIT:
                raise LocalError(f"{name}={text!r}: 1 to {_TEXT_LIMIT} octets are allowed")
        pack_domain_search(self.dnssearch)

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[str, str]]) -> Self:
        """From the (key, value) pairs of QEMU's `-netdev user,key=value`; raises `LocalError`."""
        single: dict[str, object] = {}
        repeated: dict[str, tuple[str, ...]] = {}
        for key, value in pairs:
            if key in _REPEATED:
                repeated[key] = (*repeated.get(key, ()), value)
            elif key in _READERS:
                single[key.replace("-", "_")] = _READERS[key](key, value)
            elif key in _FIXED:
                _check_fixed(key, value)
            elif key in NOT_YET:
                raise LocalError(f"{key}={value}: the user-mode network does not have this option of QEMU's yet, so leave it out")
            else:
                allowed = ", ".join(sorted(_REPEATED | _READERS.keys() | _FIXED.keys()))
                raise LocalError(f"netdev user has no option {key!r}: it has {allowed}")
        return cls(**single, **repeated)  # type: ignore[arg-type] # each reader gives its field's type

    @property
    def smb(self) -> IPv4Address | None:
        """The SMB server's address, kept free for it; None where another part of the network was given that address."""
        address = self._in_net(_SMB_HOST)
        unusable = (self.host, self.dns, self.dhcpstart, self.net.network_address, self.net.broadcast_address)
        return None if address in unusable else address

    @property
    def own_addresses(self) -> tuple[IPv4Address, ...]:
        """The addresses at which the network itself answers: gateway, DNS server and SMB server."""
        return tuple(address for address in (self.host, self.dns, self.smb) if address is not None)

    @property
    def pool(self) -> tuple[IPv4Address, ...]:
        """The addresses that are leased: at most 16, from `dhcpstart` on, without the network's own."""
        first = int(self.dhcpstart)
        last = min(first + POOL_SIZE, int(self.net.broadcast_address))
        return tuple(address for address in map(IPv4Address, range(first, last)) if address not in self.own_addresses)


def _network(key: str, value: str) -> IPv4Network:
    address, slash, _ = value.partition("/")
    try:
        if slash:
            return IPv4Network(value, strict=False)
        bare = IPv4Address(address)
    except ValueError:
        raise LocalError(f"{key}={value}: a network such as 10.0.2.0/24 or 10.0.2.0/255.255.255.0 is needed") from None
    length = next(length for block, length in _CLASS_MASKS if bare in block)
    return IPv4Network((bare, length), strict=False)


def _address(key: str, value: str) -> IPv4Address:
    try:
        return IPv4Address(value)
    except ValueError:
        raise LocalError(f"{key}={value}: an IPv4 address such as 10.0.2.2 is needed") from None


def _boolean(key: str, value: str) -> bool:
    if value not in _BOOLEANS:
        raise LocalError(f"{key}={value}: on or off is needed")
    return _BOOLEANS[value]


def _number(key: str, value: str) -> int:
    if not (value.isascii() and value.isdigit()):
        raise LocalError(f"{key}={value}: a whole number is needed")
    return int(value)


def _text(key: str, value: str) -> str:
    del key
    return value


def _check_fixed(key: str, value: str) -> None:
    if _boolean(key, value) is not _FIXED[key]:
        raise LocalError(f"{key}={value}: the user-mode network speaks IPv4 and not yet IPv6, so leave it out")


_READERS: Final[dict[str, Callable[[str, str], object]]] = {
    "net": _network,
    "host": _address,
    "dns": _address,
    "dhcpstart": _address,
    "restrict": _boolean,
    "hostname": _text,
    "domainname": _text,
    "mtu": _number,
    "lease-time": _number,
}
_REPEATED: Final = frozenset({"dnssearch", "hostfwd"})
_FIXED: Final = {"ipv4": True, "ipv6": False}
