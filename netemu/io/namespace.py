"""A private network namespace: the test's own Internet, held by a descriptor and by somebody who lives inside.

A Linux namespace belongs to threads, not to the process. With CAP_SYS_ADMIN a thread of this process lives inside
(`netemu.io.inside`); without it another process does, in a user namespace (`netemu.io.userns`). `call` has something done inside:
a socket or a TAP device made there stays there. `start` starts programs inside. Calls run one after the other and the loop's
thread may be waiting for one, so keep them short: start processes inside, wait for them outside.

There is a private file over /etc/resolv.conf, for C libraries. Addresses live on `lo`, which carries packets between any two of
them. Links, addresses and routes are made with pyroute2 over a netlink socket inside.

`close` ends who lives inside and closes the descriptor; the kernel takes the namespace down once the last socket or process inside
is gone.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Concatenate, NamedTuple, ParamSpec, Protocol, Self, TypeVar

from netemu.errors import HostError, LocalError
from netemu.io.inside import RESOLV_CONF, ThreadInside
from netemu.io.userns import ProcessInside

__all__ = ["Namespace", "NamespaceProbe", "probe_namespace"]

_IFF_NOARP = 0x80  # linux/if.h
_IFA_F_NODAD = 0x02  # linux/if_addr.h: nobody else is here, so an IPv6 address need not wait
_PING_GROUPS = "/proc/sys/net/ipv4/ping_group_range"
_RTN_LOCAL = 2  # linux/rtnetlink.h
_PATIENCE = 100
_PAUSE = 0.001  # seconds

_P = ParamSpec("_P")
_R = TypeVar("_R")


class _Netlink(Protocol):
    """What is used of pyroute2's IPRoute."""

    def link(self, command: str, **fields: str | int) -> object: ...
    def link_lookup(self, **fields: str) -> Sequence[int]: ...
    def addr(self, command: str, **fields: str | int) -> object: ...
    def route(self, command: str, **fields: str | int) -> Iterable[Mapping[str, object]]: ...


class NamespaceProbe(NamedTuple):
    """Whether a namespace can be made here, and if not, why, in one sentence."""

    available: bool
    words: str


def probe_namespace() -> NamespaceProbe:
    """Make a namespace and close it again."""
    try:
        with Namespace("probe") as namespace:
            how = ", in user namespaces" if namespace.rootless else ""
    except HostError as error:
        return NamespaceProbe(False, str(error))
    return NamespaceProbe(True, f"private network namespaces can be made{how}")


class Namespace:
    """A network namespace with `lo` up and no name servers; a context manager. `fd` is its descriptor, for setns(2).

    `rootless`: who lives inside is a process in a user namespace, so `call` takes only what can be pickled. Where neither way is
    allowed it is a `HostError` that says why.
    """

    def __init__(self, name: str = "netns") -> None:
        self.name = name
        self._closed = False
        self._inside = _enter(name)
        self.fd = self._inside.fd
        self.set_link_up("lo")

    @property
    def rootless(self) -> bool:
        return isinstance(self._inside, ProcessInside)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def call(self, function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Run `function` inside and give what it returns or raises. It must be short: other calls wait for it."""
        return self._open().call(function, *args, **kwargs)

    def open(self, function: Callable[_P, int], *args: _P.args, **kwargs: _P.kwargs) -> int:
        """The descriptor that `function` opens inside, for use here."""
        return self._open().open(function, *args, **kwargs)

    def start(
        self,
        make: Callable[Concatenate[Sequence[str | Path], _P], _R],
        command: Sequence[str | Path],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _R:
        """What `make` makes of `command` and the rest, such as a `subprocess.Popen`: the program runs inside, our child."""
        return self._open().start(make, command, *args, **kwargs)

    def _open(self) -> ThreadInside | ProcessInside:
        if self._closed:
            raise LocalError(f"namespace {self.name!r} is closed; make another one")
        return self._inside

    def set_link_up(self, link: str) -> None:
        self._netlink(f"set {link} up", _set_link_up, link)

    def add_bridge(self, link: str) -> None:
        """Make a bridge without ports, and set it up."""
        self._netlink(f"add bridge {link}", _add_bridge, link)
        self.set_link_up(link)

    def add_blackhole(self, link: str) -> None:
        """Make an interface that takes every packet and says nothing: a bridge without ports that does not ask ARP.

        A route of the kind `blackhole` is not silent: senders on this machine get EINVAL.
        """
        self.add_bridge(link)
        self._netlink(f"silence {link}", _silence, link)

    def add_address(self, address: str, link: str = "lo") -> None:
        """Give `link` an address, such as 192.0.2.1/32 or 2001:db8::1/128, usable at once; having it already is fine."""
        try:
            interface = ip_interface(address)
        except ValueError as error:
            raise LocalError(f"address {address!r}: {error}; write 192.0.2.1/32 or 2001:db8::1/128") from None
        self._netlink(f"add address {address}", _add_address, str(interface.ip), interface.network.prefixlen, link)

    def add_route(self, network: str, *, link: str | None = None, via: str | None = None, kind: str = "unicast") -> None:
        """Send packets for `network` out of `link` or to the router `via`, or refuse them (`kind`: ip-route(8): unreachable
        is EHOSTUNREACH, throw ENETUNREACH, prohibit EACCES). An existing route for `network` is replaced.
        """
        try:
            destination = ip_network(network)
        except ValueError as error:
            raise LocalError(f"network {network!r}: {error}; write 203.0.113.0/24 or 2001:db8:1::/48") from None
        self._netlink(f"add route {network} {kind}", _add_route, str(destination), kind, link, via)

    def set_ping_group_range(self, low: int, high: int) -> None:
        """Who may open ping sockets inside: groups `low` to `high`; (1, 0) is nobody, not even root (icmp(7)).

        A rootless namespace knows our own group only: it is nobody at first, and cannot be nobody again (`HostError`).
        """
        low, high = self._inside.groups(low, high)
        if self.rootless and low > high and self.call(Path(_PING_GROUPS).read_text).split() != ["0", "0"]:
            return
        self.set_sysctl("net/ipv4/ping_group_range", f"{low} {high}")

    def set_sysctl(self, name: str, value: str) -> None:
        """Write a parameter of the namespace's own, such as net/ipv4/ip_forward: its path below /proc/sys."""
        if not name.startswith("net/"):
            raise LocalError(f"parameter {name!r}: those below net/ are the namespace's own, others are the machine's")
        self._write(f"/proc/sys/{name}", value)

    def set_nameservers(self, addresses: Iterable[str]) -> None:
        """What C libraries inside find in /etc/resolv.conf."""
        self._write(RESOLV_CONF, "".join(f"nameserver {address}\n" for address in addresses))

    def close(self) -> None:
        """End who lives inside. Sockets and processes inside are their owners' to end. A second call does nothing."""
        if not self._closed:
            self._closed = True
            self._inside.close()

    def _write(self, path: str, text: str) -> None:
        try:
            self.call(Path(path).write_text, text)
        except OSError as error:
            raise HostError(error.errno or errno.EIO, f"write {text!r} to {path}") from None

    def _netlink(
        self, operation: str, change: Callable[Concatenate[_Netlink, _P], None], *args: _P.args, **kwargs: _P.kwargs
    ) -> None:
        self.call(_change, f"{operation} in namespace {self.name!r}", change, *args, **kwargs)


def _enter(name: str) -> ThreadInside | ProcessInside:
    try:
        return ThreadInside(name)
    except HostError as refused:
        if refused.errno != errno.EPERM:
            raise
        try:
            return ProcessInside(name)
        except HostError as error:
            raise HostError(errno.EPERM, f"{refused.operation}, or {error.operation}") from None


# What is done inside, over netlink


def _change(operation: str, change: Callable[Concatenate[_Netlink, _P], None], /, *args: _P.args, **kwargs: _P.kwargs) -> None:
    from pyroute2 import IPRoute, NetlinkError

    with IPRoute() as ip:
        try:
            change(ip, *args, **kwargs)
        except NetlinkError as error:
            raise HostError(error.code, operation) from None


def _set_link_up(ip: _Netlink, link: str) -> None:
    ip.link("set", index=_index(ip, link), state="up")


def _add_bridge(ip: _Netlink, link: str) -> None:
    ip.link("add", ifname=link, kind="bridge")


def _silence(ip: _Netlink, link: str) -> None:
    ip.link("set", index=_index(ip, link), flags=_IFF_NOARP, change=_IFF_NOARP)


def _add_address(ip: _Netlink, address: str, length: int, link: str) -> None:
    ipv6 = ":" in address
    flags = {"flags": _IFA_F_NODAD} if ipv6 else {}
    ip.addr("replace", index=_index(ip, link), address=address, prefixlen=length, **flags)
    if ipv6:
        _wait_until_local(ip, address)


def _add_route(ip: _Netlink, destination: str, kind: str, link: str | None, via: str | None) -> None:
    family = socket.AF_INET6 if ":" in destination else socket.AF_INET
    via_router = {} if via is None else {"gateway": via}
    out = {} if link is None else {"oif": _index(ip, link)}
    ip.route("replace", family=family, dst=destination, type=kind, **via_router, **out)


def _wait_until_local(ip: _Netlink, address: str) -> None:
    """Linux makes the local route of an IPv6 address in another thread; what is sent before it is there is lost.

    A link that is down gets it when it is set up, so this is no error.
    """
    from pyroute2 import NetlinkError

    for _ in range(_PATIENCE):
        with suppress(NetlinkError):
            if any(route["type"] == _RTN_LOCAL for route in ip.route("get", dst=address)):
                return
        time.sleep(_PAUSE)


def _index(ip: _Netlink, link: str) -> int:
    found = ip.link_lookup(ifname=link)
    if not found:
        raise LocalError(f"there is no interface {link!r} in the namespace; add_link makes one")
    return found[0]
