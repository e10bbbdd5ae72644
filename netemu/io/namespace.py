"""A private network namespace: the test's own Internet, held by a descriptor and by one thread that lives inside.

A Linux namespace belongs to threads, not to the process: `Namespace` starts one, which leaves the common network namespace
(unshare(2), CLONE_NEWNET) and then runs what `call` gives it. A socket, a TAP device or a process made there stays there. Calls run
one after the other and the loop's thread may be waiting for one, so keep them short: start processes inside, wait for them outside.

The thread has its own mount namespace as well (CLONE_NEWNS), with a private file over /etc/resolv.conf, because C libraries read
their name servers from that path only. Addresses live on `lo`, which carries packets between any two of them.
Links, addresses and routes are made with pyroute2 over a netlink socket of the thread's own.

`close` ends the thread and closes the descriptor; the kernel takes the namespace down once the last socket or process inside
is gone.

Not done: namespaces for users without CAP_SYS_ADMIN. A user namespace would give it, but a process with threads cannot enter one
(unshare(2), EINVAL).
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import NamedTuple, ParamSpec, Protocol, Self, TypeVar

from netemu.errors import HostError, LocalError

__all__ = ["Namespace", "NamespaceProbe", "probe_namespace"]

_CLONE_NEWNS = 0x00020000  # linux/sched.h
_CLONE_NEWNET = 0x40000000
_MS_BIND = 0x1000  # linux/mount.h
_MS_REC = 0x4000
_MS_PRIVATE = 0x40000
_IFF_NOARP = 0x80  # linux/if.h
_IFA_F_NODAD = 0x02  # linux/if_addr.h: nobody else is here, so an IPv6 address need not wait
_RTN_LOCAL = 2  # linux/rtnetlink.h
_PATIENCE = 100
_PAUSE = 0.001  # seconds
_RESOLV_CONF = "/etc/resolv.conf"

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
        Namespace("probe").close()
    except HostError as error:
        return NamespaceProbe(False, str(error))
    return NamespaceProbe(True, "private network namespaces can be made")


class Namespace:
    """A network namespace with `lo` up and no name servers; a context manager. `fd` is its descriptor, for setns(2).

    Making one without CAP_SYS_ADMIN is a `HostError` (EPERM).
    """

    def __init__(self, name: str = "netns") -> None:
        self.name = name
        self._thread_id = 0
        self._closed = False
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"netemu-{name}")
        try:
            self.fd = self._executor.submit(self._enter).result()
        except OSError:
            self._executor.shutdown()
            raise
        self.set_link_up("lo")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _enter(self) -> int:
        self._thread_id = threading.get_ident()
        libc = ctypes.CDLL(None, use_errno=True)

        def check(status: int, operation: str) -> None:
            if status:
                raise HostError(ctypes.get_errno(), operation)

        flags = _CLONE_NEWNET | _CLONE_NEWNS
        check(libc.unshare(flags), f"make the private network namespace {self.name!r}, which needs CAP_SYS_ADMIN (run as root)")
        check(libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "make the namespace's mounts private")
        with tempfile.NamedTemporaryFile(prefix="netemu-resolv-") as file:  # the mount outlives the name
            Path(file.name).chmod(0o644)
            mounted = libc.mount(file.name.encode(), _RESOLV_CONF.encode(), None, _MS_BIND, None)
            check(mounted, f"mount a private {_RESOLV_CONF}")
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def call(self, function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Run `function` inside and give what it returns or raises. It must be short: other calls wait for it."""
        if self._closed:
            raise LocalError(f"namespace {self.name!r} is closed; make another one")
        if threading.get_ident() == self._thread_id:
            return function(*args, **kwargs)
        return self._executor.submit(function, *args, **kwargs).result()

    def set_link_up(self, link: str) -> None:
        self._netlink(f"set {link} up", lambda ip: ip.link("set", index=_index(ip, link), state="up"))

    def add_bridge(self, link: str) -> None:
        """Make a bridge without ports, and set it up."""
        self._netlink(f"add bridge {link}", lambda ip: ip.link("add", ifname=link, kind="bridge"))
        self.set_link_up(link)

    def add_blackhole(self, link: str) -> None:
        """Make an interface that takes every packet and says nothing: a bridge without ports that does not ask ARP.

        A route of the kind `blackhole` is not silent: senders on this machine get EINVAL.
        """
        self.add_bridge(link)
        no_arp = {"flags": _IFF_NOARP, "change": _IFF_NOARP}
        self._netlink(f"silence {link}", lambda ip: ip.link("set", index=_index(ip, link), **no_arp))

    def add_address(self, address: str, link: str = "lo") -> None:
        """Give `link` an address, such as 192.0.2.1/32 or 2001:db8::1/128, usable at once; having it already is fine."""
        try:
            interface = ip_interface(address)
        except ValueError as error:
            raise LocalError(f"address {address!r}: {error}; write 192.0.2.1/32 or 2001:db8::1/128") from None
        ip_text, length = str(interface.ip), interface.network.prefixlen
        flags = {"flags": _IFA_F_NODAD} if interface.version == 6 else {}

        def add(ip: _Netlink) -> None:
            ip.addr("replace", index=_index(ip, link), address=ip_text, prefixlen=length, **flags)
            if interface.version == 6:
                _wait_until_local(ip, ip_text)

        self._netlink(f"add address {address}", add)

    def add_route(self, network: str, *, link: str | None = None, via: str | None = None, kind: str = "unicast") -> None:
        """Send packets for `network` out of `link` or to the router `via`, or refuse them (`kind`: ip-route(8): unreachable
        is EHOSTUNREACH, throw ENETUNREACH, prohibit EACCES). An existing route for `network` is replaced.
        """
        try:
            destination = ip_network(network)
        except ValueError as error:
            raise LocalError(f"network {network!r}: {error}; write 203.0.113.0/24 or 2001:db8:1::/48") from None
        family = socket.AF_INET if destination.version == 4 else socket.AF_INET6
        via_router = {} if via is None else {"gateway": via}

        def add(ip: _Netlink) -> None:
            out = {} if link is None else {"oif": _index(ip, link)}
            ip.route("replace", family=family, dst=str(destination), type=kind, **via_router, **out)

        self._netlink(f"add route {network} {kind}", add)

    def set_ping_group_range(self, low: int, high: int) -> None:
        """Who may open ping sockets inside: groups `low` to `high`; (1, 0) is nobody, not even root (icmp(7))."""
        self.set_sysctl("net/ipv4/ping_group_range", f"{low} {high}")

    def set_sysctl(self, name: str, value: str) -> None:
        """Write a parameter of the namespace's own, such as net/ipv4/ip_forward: its path below /proc/sys."""
        if not name.startswith("net/"):
            raise LocalError(f"parameter {name!r}: those below net/ are the namespace's own, others are the machine's")
        self._write(f"/proc/sys/{name}", value)

    def set_nameservers(self, addresses: Iterable[str]) -> None:
        """What C libraries inside find in /etc/resolv.conf."""
        self._write(_RESOLV_CONF, "".join(f"nameserver {address}\n" for address in addresses))

    def close(self) -> None:
        """End the thread. Sockets and processes inside are their owners' to end. A second call does nothing."""
        if not self._closed:
            self._closed = True
            self._executor.shutdown()
            os.close(self.fd)

    def _write(self, path: str, text: str) -> None:
        try:
            self.call(Path(path).write_text, text)
        except OSError as error:
            raise HostError(error.errno or errno.EIO, f"write {text!r} to {path}") from None

    def _netlink(self, operation: str, change: Callable[[_Netlink], object]) -> None:
        from pyroute2 import IPRoute, NetlinkError

        def act() -> None:
            with IPRoute() as ip:
                try:
                    change(ip)
                except NetlinkError as error:
                    raise HostError(error.code, f"{operation} in namespace {self.name!r}") from None

        self.call(act)


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
