"""libslirp as a part: the C user-mode network of QEMU, driven from Python in the network's own clock.

libslirp is a library: it is given frames (`slirp_input`), gives frames (`send_packet`), asks for the time (`clock_get_ns`) and
says which descriptors it waits for (`slirp_pollfds_fill`, `slirp_pollfds_poll`). So it can live in virtual time; only the sockets
behind it are real. They belong to a private namespace: every call into the library is made by the namespace's own thread, and
a guest's packets find the addresses the test put there and nothing else. The resolver file it reads is the namespace's too.

Two of its habits shape this file. One `slirp_pollfds_poll` runs at most one slow tick (499 ms) however far the clock has jumped,
so time is given to it in steps no longer than that while it has something to wait for. And its clock is a variable of the
process: the instances of one process share one clock, so two networks with libslirp must not run in turns.

Not bound: IPv6, TFTP, guestfwd, migration.
"""

from __future__ import annotations

import ctypes
import errno
import select
import sys
from collections import Counter
from ipaddress import IPv4Address
from typing import Final

from netemu.errors import HostError, LocalError
from netemu.io.host import Host
from netemu.io.namespace import Namespace, probe_namespace
from netemu.io.oshost import NetnsHost
from netemu.io.watcher import FdWatcher
from netemu.net.clock import MILLISECOND
from netemu.net.loop import Loop, Timer
from netemu.net.port import Frame, Port
from netemu.peers import libslirp_abi as abi
from netemu.user.forward import Forward, parse_forward
from netemu.user.options import UserOptions
from netemu.wire.address import Endpoint
from netemu.wire.vnet_hdr import VnetHeader

__all__ = ["CAPABILITIES", "LibslirpBackend", "probe", "version"]

CAPABILITIES: Final = frozenset(
    {
        "arp",
        "dhcp4.server",
        "dns.forward",
        "icmp.echo",
        "icmp.forward",
        "nat.tcp",
        "nat.udp",
        "hostfwd.tcp",
        "hostfwd.udp",
        "hostfwd.runtime",
        "restrict",
        "virtual-clock",
    }
)

_STEP: Final = 499  # ms: its slow tick; a longer step of the clock loses ticks
_IDLE: Final = 1000  # ms: what slirp_pollfds_fill leaves of the timeout when it waits for nothing

# libslirp's event bits and epoll's. What is asked for is a subset of what may be reported.
_ASKED: Final = ((abi.POLL_IN, select.EPOLLIN), (abi.POLL_OUT, select.EPOLLOUT), (abi.POLL_PRI, select.EPOLLPRI))
_REPORTED: Final = (*_ASKED, (abi.POLL_ERR, select.EPOLLERR), (abi.POLL_HUP, select.EPOLLHUP))


def version() -> str:
    """The library's version, such as 4.7.0; `OSError` where it is not installed."""
    return str(abi.load().slirp_version_string().decode())


def probe() -> str | None:
    """Why libslirp cannot run here, or None."""
    try:
        version()
    except OSError:
        return f"{abi.SONAME} is not installed (Debian: apt-get install libslirp0)"
    namespace = probe_namespace()
    return None if namespace.available else namespace.words


class LibslirpBackend:
    """A user-mode network that is libslirp. `host` is where its sockets land: a namespace of its own.

    `options` are those of `-netdev user`; `lease_time` and `dnssearch` are not libslirp's to change and must be left alone.
    """

    kind = "libslirp"
    capabilities = CAPABILITIES

    def __init__(self, loop: Loop, id: str, options: UserOptions) -> None:  # noqa: A002 - QEMU's name
        self.id = id
        self.net, self.gateway, self.dns, self.dhcpstart = options.net, options.host, options.dns, options.dhcpstart
        self.forwards: tuple[Forward, ...] = ()
        self.counters: Counter[str] = Counter()
        self._loop = loop
        self._namespace = Namespace(id)
        self.host: Host = NetnsHost(loop, self._namespace)
        self._watcher = FdWatcher(loop)
        self._watched: dict[int, int] = {}
        self._outbox: list[Frame] = []
        self._polled: list[tuple[int, int]] = []
        self._timer: Timer | None = None
        self._library = abi.load()
        self._callbacks = self._make_callbacks()
        self._add_poll = abi.ADD_POLL(self._on_add_poll)
        config = _make_config(options, self.version)
        new = self._library.slirp_new
        self._slirp = self._namespace.call(new, ctypes.byref(config), ctypes.byref(self._callbacks), None)
        if not self._slirp:
            raise LocalError(f"libslirp {self.version} refused {options!r}; its reason is on standard error")
        self.port = Port(loop, id, self._receive)
        for rule in options.hostfwd:
            self.add_hostfwd(rule)
        self._settle()

    @property
    def version(self) -> str:
        return str(self._library.slirp_version_string().decode())

    def _make_callbacks(self) -> abi.SlirpCb:
        def send_packet(buffer: int, length: int, _opaque: int | None) -> int:
            self._outbox.append(ctypes.string_at(buffer, length))
            return length

        def guest_error(message: bytes, _opaque: int | None) -> None:
            self.counters[message.decode(errors="replace").strip()] += 1

        def nothing(*_arguments: object) -> None:
            """A callback we have no use for: descriptors are asked for anew at every turn, and IPv6's timer is off."""

        return abi.SlirpCb(
            send_packet=abi.SEND_PACKET(send_packet),
            guest_error=abi.GUEST_ERROR(guest_error),
            clock_get_ns=abi.CLOCK_GET_NS(lambda _opaque: self._loop.now()),
            timer_new=abi.TIMER_NEW(lambda *_arguments: None),
            timer_free=abi.TIMER_FREE(nothing),
            timer_mod=abi.TIMER_MOD(nothing),
            register_poll_fd=abi.POLL_FD(nothing),
            unregister_poll_fd=abi.POLL_FD(lambda fd, _opaque: self._forget(fd)),
            notify=abi.NOTIFY(nothing),
            init_completed=abi.INIT_COMPLETED(nothing),
            timer_new_opaque=abi.TIMER_NEW_OPAQUE(lambda *_arguments: None),
        )

    def _forget(self, fd: int) -> None:
        """The library is about to close `fd`: its number may be another socket's in a moment."""
        self._watcher.unwatch(fd)
        self._watched.pop(fd, None)

    def _on_add_poll(self, fd: int, events: int, _opaque: int | None) -> int:
        self._polled.append((fd, events))
        return len(self._polled) - 1

    def _receive(self, frame: Frame, header: VnetHeader | None) -> bool:  # noqa: ARG002 - libslirp has no offloads
        self._namespace.call(self._library.slirp_input, self._slirp, frame, len(frame))
        self._settle()
        return True

    def _settle(self, _events: int = 0) -> None:
        """Let it do what it can, send what came out, then watch what it waits for, and for how long."""
        timeout = self._namespace.call(self._turn)
        for frame in self._outbox:
            self.port.send(frame)
        self._outbox.clear()
        self._watch()
        self._watcher.expect()
        if self._timer is not None:
            self._timer.cancel()
        due = self._loop.now() + min(timeout, _STEP) * MILLISECOND
        self._timer = self._loop.call_at(due, self._settle) if timeout < _IDLE else None

    def _turn(self) -> int:
        """One round: ask what it waits for, look without waiting, tell it. Gives its timeout in milliseconds."""
        self._fill()
        poller = select.poll()  # its bits are epoll's (epoll_ctl(2))
        for fd, events in self._polled:
            poller.register(fd, _translate(events, _ASKED))
        ready = dict(poller.poll(0))
        revents = [_translate_back(ready.get(fd, 0), _REPORTED) for fd, _ in self._polled]
        self._library.slirp_pollfds_poll(self._slirp, 0, abi.GET_REVENTS(lambda index, _opaque: revents[index]), None)
        return self._fill()

    def _fill(self) -> int:
        self._polled.clear()
        timeout = ctypes.c_uint32(_IDLE)
        self._library.slirp_pollfds_fill(self._slirp, ctypes.byref(timeout), self._add_poll, None)
        return timeout.value

    def _watch(self) -> None:
        """Hear from the descriptors of the last turn, and from no others."""
        wanted = dict(self._polled)
        for fd in self._watched.keys() - wanted.keys():
            self._watcher.unwatch(fd)
        for fd, events in wanted.items():
            if fd not in self._watched:
                self._watcher.watch(fd, _translate(events, _ASKED), self._settle)
            elif self._watched[fd] != events:
                self._watcher.modify(fd, _translate(events, _ASKED))
        self._watched = wanted

    def add_hostfwd(self, rule: str) -> Forward:
        """Forward a host port: QEMU's grammar. libslirp does not say which port it got for 0: its connection table does."""
        asked = parse_forward(rule, self.net, self.dhcpstart)
        before = self._listening()
        failed = self._namespace.call(self._add, asked)
        if failed:
            raise HostError(failed, f"hostfwd {rule}")
        (port,) = (self._listening() - before) or {asked.host.port}
        forward = Forward(asked.protocol, Endpoint(asked.host.address, port), asked.guest)
        self.forwards = (*self.forwards, forward)
        self._settle()
        return forward

    def _add(self, forward: Forward) -> int:
        ctypes.set_errno(0)
        refused = self._library.slirp_add_hostfwd(
            self._slirp, forward.protocol == "udp", _in_addr(forward.host.address), forward.host.port,
            _in_addr(forward.guest.address), forward.guest.port,
        )  # fmt: skip
        return (ctypes.get_errno() or errno.EADDRINUSE) if refused else 0

    def remove_hostfwd(self, forward: Forward) -> None:
        """Stop listening; connections that are open stay."""
        if forward not in self.forwards:
            raise LocalError(f"{forward} is not forwarded here: {', '.join(map(str, self.forwards)) or 'nothing is'}")
        self._namespace.call(
            self._library.slirp_remove_hostfwd,
            self._slirp, forward.protocol == "udp", _in_addr(forward.host.address), forward.host.port,
        )  # fmt: skip
        self.forwards = tuple(other for other in self.forwards if other != forward)
        self._settle()

    def _listening(self) -> set[int]:
        """Host ports in the connection table (`info usernet`): `  TCP[HOST_FORWARD]  13  127.0.0.1  40001  10.0.2.15  80 0 0`."""
        text = self._namespace.call(self._connection_info)
        rows = (line.split() for line in text.splitlines())
        return {int(row[3]) for row in rows if row and row[0].endswith("[HOST_FORWARD]")}

    def _connection_info(self) -> str:
        pointer = self._library.slirp_connection_info(self._slirp)
        text = ctypes.string_at(pointer).decode()
        abi.free(pointer)
        return text

    def close(self) -> None:
        """Take the instance down with its sockets, its host and its namespace."""
        if self._timer is not None:
            self._timer.cancel()
        self._namespace.call(self._library.slirp_cleanup, self._slirp)
        self._watcher.close()
        self.port.disconnect()
        self.host.close()
        self._namespace.close()


def _make_config(options: UserOptions, library_version: str) -> abi.SlirpConfig:
    return abi.SlirpConfig(
        version=abi.config_version(library_version),
        restricted=options.restrict,
        in_enabled=True,
        vnetwork=_in_addr(options.net.network_address),
        vnetmask=_in_addr(options.net.netmask),
        vhost=_in_addr(options.host),
        vhostname=options.hostname.encode() if options.hostname else None,
        vdhcp_start=_in_addr(options.dhcpstart),
        vnameserver=_in_addr(options.dns),
        vdomainname=options.domainname.encode() if options.domainname else None,
        if_mtu=options.mtu,
        if_mru=options.mtu,
    )


def _in_addr(address: IPv4Address) -> abi.InAddr:
    return abi.InAddr(int.from_bytes(address.packed, sys.byteorder))


def _translate(events: int, table: tuple[tuple[int, int], ...]) -> int:
    return sum(theirs for ours, theirs in table if events & ours)


def _translate_back(events: int, table: tuple[tuple[int, int], ...]) -> int:
    return sum(ours for ours, theirs in table if events & theirs)
