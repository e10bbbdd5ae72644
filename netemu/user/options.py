"""The options of a user-mode network, under QEMU's names, with QEMU's defaults and checks (net/slirp.c).

Every default address lies in `net`: the gateway is `net | 0.0.2.2`, the DNS server `net | 0.0.2.3`, the SMB server's address
`net | 0.0.2.4` and the first leased address `net | 0.0.2.15`, each cut to the bits that `net` leaves to hosts.

These are not QEMU's: `mtu`, `disable-host-loopback`, `disable-dns`, `disable-dhcp`, `outbound-addr` and `outbound-addr6`, which
libslirp has and QEMU does not reach; what a DHCP, DNS or TFTP server has beyond libslirp's: `lease-time`, `pool-size`,
`static-lease`, `ntp`, `route`, `dns-name` and `tftp-write`; and `hostfwd-source`.

`ip=ADDRESS` is QEMU's older word for `net=ADDRESS/24`.

Both families are spoken unless one is switched off, or the other named alone (`ipv6=on`); `netemu.user.options6` has the IPv6 half.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, Self, cast

from netemu.errors import LocalError
from netemu.user import options6
from netemu.user.dns_names import DnsNames
from netemu.user.forward import Place, parse_forward
from netemu.user.guest_forward import parse_guestfwd
from netemu.user.option_values import (
    HostfwdSource,
    read_address,
    read_boolean,
    read_lease,
    read_name,
    read_network,
    read_number,
    read_route,
    read_source,
    read_text,
    read_text_if_any,
)
from netemu.wire.address import IPAddress, MacAddress
from netemu.wire.dhcpv4 import pack_domain_search
from netemu.wire.fields import ANY_IPV4
from netemu.wire.ipv6 import MINIMUM_MTU

__all__ = ["POOL_SIZE", "UserOptions"]

POOL_SIZE: Final = 16  # leases from dhcpstart on, as libslirp's NB_BOOTP_CLIENTS

_DEFAULT_NET: Final = IPv4Network("10.0.2.0/24")
_DEFAULT_HOSTS: Final = {"host": 0x0202, "dns": 0x0203, "dhcpstart": 0x020F}  # or-ed to net (net_slirp_init)
_DEFAULT_HOSTS6: Final = {"ipv6_host": 2, "ipv6_dns": 3}  # or-ed to ipv6_net
_SMB_HOST: Final = 0x0204
_MTU: Final = range(576, 65521 + 1)  # what every host takes (RFC 1122 3.3.2), a DHCP message needs; libslirp's IF_MTU_MAX
_LEASE_TIME: Final = range(1, 0xFFFFFFFF)  # 0xffffffff would be for ever (RFC 2131 3.3)
_PREFIX_LENGTHS: Final = range(4, 30 + 1)  # QEMU takes 4 to 32, but gateway, DNS server and a guest need a /29 or a /30
_RANGES: Final = {
    "mtu": (_MTU, "octets"),
    "lease_time": (_LEASE_TIME, "seconds"),
    "pool_size": (range(1, 4096 + 1), "leases"),
}
_TEXT_LIMITS: Final = {  # octets
    "hostname": 255,  # in one DHCP option (RFC 2132 2)
    "domainname": 255,
    "tftp_server_name": 255,
    "bootfile": 127,  # in the field `file` with the zero octet that ends it (RFC 2131 2)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class UserOptions:
    """What a user-mode network is told. Raises `LocalError` for what cannot work.

    `net`: the guests' network. `host`: the gateway's address, which is also the DHCP server's. `dns`: the DNS server's.
    `dhcpstart`: the first of 16 leased addresses. 0.0.0.0 stands for the default in `net`, and is replaced by it.
    `restrict`: guests reach the gateway's services and forwarded connections, nothing else.
    `hostname`, `domainname`, `dnssearch`: DHCP options 12, 15 and 119. `hostfwd`: rules, `[tcp|udp]:[addr]:port-[addr]:port`.
    `ipv4`, `ipv6`: which families are spoken. `ipv6_net`, `ipv6_host`, `ipv6_dns`: as `net`, `host` and `dns`; `::` stands for the
    default. `dhcpv6`: what is served by DHCPv6.
    `guestfwd`: servers in the guests' network, `[tcp]:[server]:port-target`. `smb`: the directory that a Samba server shares at
    `smbserver`. `tftp`: the directory that the gateway serves; `tftp_write`: guests may put files there. `bootfile`,
    `tftp_server_name`: what DHCP says of booting. `pool_size`: leases, 1..4096. `static_lease`: whose address is settled. `ntp`,
    `route`: DHCP options 42 and 121. `dns_name`: names that the DNS server knows by itself, each with an
    address or the name it is an alias of. `disable_host_loopback`: the gateway
    does not stand for the host's loopback. `disable_dns`, `disable_dhcp`: there is no such server. `outbound_addr`,
    `outbound_addr6`: the host's address from which guests' connections, datagrams and pings go out; 0.0.0.0 and `::` leave that to
    the host. `hostfwd_source`: as what guests see the peers of forwarded ports (`netemu.user.visitors`).
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
    ipv4: bool = True
    ipv6: bool = True
    ipv6_net: IPv6Network = options6.DEFAULT_PREFIX
    ipv6_host: IPv6Address = options6.UNSPECIFIED
    ipv6_dns: IPv6Address = options6.UNSPECIFIED
    dhcpv6: options6.Dhcpv6Mode = "stateful"
    guestfwd: tuple[str, ...] = ()
    smb: str | None = None
    smbserver: IPv4Address = ANY_IPV4
    tftp: str | None = None
    tftp_write: bool = False
    tftp_server_name: str | None = None
    bootfile: str | None = None
    mtu: int = 1500
    lease_time: int = 86_400
    pool_size: int = POOL_SIZE
    static_lease: tuple[tuple[MacAddress, IPv4Address], ...] = ()
    ntp: tuple[IPv4Address, ...] = ()
    route: tuple[tuple[IPv4Network, IPv4Address], ...] = ()
    dns_name: tuple[tuple[str, IPAddress | str], ...] = ()
    disable_host_loopback: bool = False
    disable_dns: bool = False
    disable_dhcp: bool = False
    outbound_addr: IPv4Address = ANY_IPV4
    outbound_addr6: IPv6Address = options6.UNSPECIFIED
    hostfwd_source: HostfwdSource = "auto"

    def __post_init__(self) -> None:
        if self.net.prefixlen not in _PREFIX_LENGTHS:
            raise LocalError(f"net={self.net}: a prefix of 4 to 30 bits leaves room for gateway and guests")
        for name, low_bits in _DEFAULT_HOSTS.items():
            if getattr(self, name) == ANY_IPV4:
                object.__setattr__(self, name, self._in_net(low_bits))
        for name, low_bits in _DEFAULT_HOSTS6.items():
            if getattr(self, name) == options6.UNSPECIFIED:
                object.__setattr__(self, name, IPv6Address(int(self.ipv6_net.network_address) | low_bits))
        if not (self.ipv4 or self.ipv6):
            raise LocalError("ipv4=off,ipv6=off: a network speaks one of them at least")
        self._check_addresses()
        self._check_addresses6()
        self._check_texts()
        self._check_static_leases()
        if self.smb_address is None and (self.smb is not None or self.smbserver != ANY_IPV4):
            raise LocalError(f"smbserver={self._in_net(_SMB_HOST)}: that address has another use in {self.net}, so give smbserver=")
        if self.smbserver != ANY_IPV4 and self.smbserver not in self.net:
            raise LocalError(f"smbserver={self.smbserver}: an address of a host in {self.net} is needed")
        for name, (allowed, unit) in _RANGES.items():
            if getattr(self, name) not in allowed:
                raise LocalError(f"{_key(name)}={getattr(self, name)}: give {allowed[0]} to {allowed[-1]} {unit}")
        if self.tftp_write and self.tftp is None:
            raise LocalError("tftp-write=on: there is no directory to write to, so give tftp=")
        for rule in self.hostfwd:
            parse_forward(rule, self.places)
        for rule in self.guestfwd:
            parse_guestfwd(rule, self.net, self.ipv6_net)

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

    def _check_addresses6(self) -> None:
        for name, must_be_inside in (("ipv6_host", True), ("ipv6_dns", self.restrict)):
            address = getattr(self, name)
            if address.is_multicast or (must_be_inside and address not in self.ipv6_net):
                raise LocalError(f"{name.replace('_', '-')}={address}: an address of a host in {self.ipv6_net} is needed")
        if self.ipv6_host == self.ipv6_dns:
            raise LocalError(f"ipv6-host={self.ipv6_host}, ipv6-dns={self.ipv6_dns}: two different addresses are needed")

    def _check_static_leases(self) -> None:
        taken = {*self.own_addresses, self.net.network_address, self.net.broadcast_address}
        for mac, address in self.static_lease:
            if address not in self.net or address in taken:
                raise LocalError(f"static-lease={mac}={address}: an address of a host in {self.net} is needed that is nobody's yet")
            taken.add(address)

    def _check_texts(self) -> None:
        for name, limit in _TEXT_LIMITS.items():
            text = getattr(self, name)
            if text is not None and not 0 < len(text.encode()) <= limit:
                raise LocalError(f"{_key(name)}={text!r}: 1 to {limit} octets are allowed")
        pack_domain_search(self.dnssearch)
        DnsNames(self.dns_name)

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[str, str]]) -> Self:
        """From the (key, value) pairs of QEMU's `-netdev user,key=value`; raises `LocalError`."""
        single: dict[str, object] = {}
        repeated: dict[str, tuple[object, ...]] = {}
        for key, value in options6.join_prefix(_settle_ip(pairs)):
            name = key.replace("-", "_")
            if key in _REPEATED:
                repeated[name] = (*repeated.get(name, ()), _REPEATED[key](key, value))
            elif key in _READERS:
                single[name] = _READERS[key](key, value)
            else:
                allowed = ", ".join(sorted(_REPEATED.keys() | _READERS.keys()))
                raise LocalError(f"netdev user has no option {key!r}: it has {allowed}")
        _settle_families(single)
        return cls(**single, **repeated)  # type: ignore[arg-type] # each reader gives its field's type

    @property
    def smb_address(self) -> IPv4Address | None:
        """The SMB server's address, kept free for it; None where another part of the network was given that address."""
        address = self._in_net(_SMB_HOST) if self.smbserver == ANY_IPV4 else self.smbserver
        unusable = (self.host, self.dns, self.dhcpstart, self.net.network_address, self.net.broadcast_address)
        return None if address in unusable else address

    @property
    def own_addresses(self) -> tuple[IPv4Address, ...]:
        """The addresses at which the network itself answers: gateway, DNS server and SMB server."""
        dns = None if self.disable_dns else self.dns
        servers = (address for address in self._servers if isinstance(address, IPv4Address))
        return tuple(dict.fromkeys(address for address in (self.host, dns, self.smb_address, *servers) if address is not None))

    @property
    def _servers(self) -> list[IPAddress]:
        """Where guestfwd serves."""
        return [parse_guestfwd(rule, self.net, self.ipv6_net).server.address for rule in self.guestfwd]

    @property
    def pool(self) -> tuple[IPv4Address, ...]:
        """The addresses that are leased to anybody: at most `pool_size`, from `dhcpstart` on, without the network's own."""
        first = int(self.dhcpstart)
        last = min(first + self.pool_size, int(self.net.broadcast_address))
        return tuple(address for address in map(IPv4Address, range(first, last)) if address not in self.own_addresses)

    @property
    def places(self) -> dict[int, Place]:
        """Where guests are, by the families that are spoken."""
        places = {}
        if self.ipv4:
            places[4] = Place(self.net, self.dhcpstart)
        if self.ipv6:
            places[6] = Place(self.ipv6_net, next(iter(self.pool6), None))
        return places

    @property
    def mtu6(self) -> int:
        """The MTU of the IPv6 side: `mtu`, but never less than the 1280 that every link of IPv6 has (RFC 8200 5)."""
        return max(self.mtu, MINIMUM_MTU)

    @property
    def own_addresses6(self) -> tuple[IPv6Address, ...]:
        """The IPv6 addresses at which the network itself answers: gateway, DNS server, their link-local addresses, and servers."""
        own = (self.ipv6_host, self.ipv6_dns, options6.link_local(self.ipv6_host), options6.link_local(self.ipv6_dns))
        return (*own, *(address for address in self._servers if isinstance(address, IPv6Address)))

    @property
    def pool6(self) -> tuple[IPv6Address, ...]:
        """The addresses that DHCPv6 leases."""
        return options6.pool(self.ipv6_net, self.own_addresses6)


def _key(name: str) -> str:
    """QEMU's word for a field."""
    return name.replace("_", "-")


def _settle_ip(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """`pairs` without `ip`, which says what the network is unless `net` does (net_init_slirp)."""
    given = list(pairs)
    if any(key == "net" for key, _ in given):
        return [(key, value) for key, value in given if key != "ip"]
    return [("net", f"{value}/24") if key == "ip" else (key, value) for key, value in given]


def _settle_families(given: dict[str, object]) -> None:
    """Decide which families are spoken, and refuse what is said about one that is not (net_slirp_init)."""
    ipv4, ipv6 = (cast("bool | None", given.get(family)) for family in ("ipv4", "ipv6"))
    enabled = dict(zip(("ipv4", "ipv6"), options6.enabled_families(ipv4, ipv6), strict=True))
    for family, names in _FAMILY_FIELDS.items():
        useless = next((name for name in names if name in given), None)
        if useless is not None and not enabled[family]:
            raise LocalError(f"{_key(useless)}={given[useless]}: {family} is off, so leave it out or say {family}=on")
    given.update(enabled)


_READERS: Final[dict[str, Callable[[str, str], object]]] = {
    "net": read_network,
    "host": read_address,
    "dns": read_address,
    "dhcpstart": read_address,
    "restrict": read_boolean,
    "hostname": read_text_if_any,
    "domainname": read_text,
    "ipv4": read_boolean,
    "ipv6": read_boolean,
    "ipv6-net": options6.read_network,
    "ipv6-host": options6.read_address,
    "ipv6-dns": options6.read_address,
    "dhcpv6": options6.read_dhcpv6,
    "mtu": read_number,
    "lease-time": read_number,
    "pool-size": read_number,
    "tftp": read_text,
    "tftp-write": read_boolean,
    "tftp-server-name": read_text_if_any,
    "bootfile": read_text_if_any,
    "disable-host-loopback": read_boolean,
    "disable-dns": read_boolean,
    "disable-dhcp": read_boolean,
    "outbound-addr": read_address,
    "outbound-addr6": options6.read_address,
    "hostfwd-source": read_source,
    "smb": read_text,
    "smbserver": read_address,
}
_REPEATED: Final[dict[str, Callable[[str, str], object]]] = {
    "dnssearch": read_text,
    "hostfwd": read_text,
    "guestfwd": read_text,
    "static-lease": read_lease,
    "ntp": read_address,
    "route": read_route,
    "dns-name": read_name,
}
_FAMILY_FIELDS: Final = {"ipv4": ("net", "host", "dns", "dhcpstart"), "ipv6": ("ipv6_net", "ipv6_host", "ipv6_dns", "dhcpv6")}
