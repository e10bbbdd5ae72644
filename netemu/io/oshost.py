"""A host made of the operating system's own sockets, never blocking, under a real or a virtual loop.

`OsHost` opens them where the process is; it reaches what the process reaches, so tests keep it to loopback. `NetnsHost` opens them
inside a private network namespace (a socket stays where it was made) whose loopback interface has the addresses of the
test's own Internet: nothing sent there can leave it.

Both serve under a virtual loop too; see `netemu.io.watcher` for what that promises.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

from netemu.errors import HostError, LocalError
from netemu.io.messages import Messages
from netemu.io.namespace import Namespace
from netemu.io.osdatagram import OsDatagram, OsPing
from netemu.io.osstream import LINGER_NONE, NO_ENDPOINT, OsListener, OsStream, socket_endpoint
from netemu.io.osunix import Programs, connect_path, listen_path
from netemu.io.peekstream import PeekStream, kernel_peeks
from netemu.io.place import HERE, Place
from netemu.io.services import DnsServer, ServiceHost
from netemu.io.stream import Closeable
from netemu.io.streamstate import StreamSnapshot
from netemu.io.tcprepair import count_unsent, may_repair, revive
from netemu.io.watcher import FdWatcher
from netemu.net.loop import Loop
from netemu.net.sockets import Address, StreamSocket, endpoint
from netemu.wire.address import Endpoint, Family, IPAddress
from netemu.wire.fields import ANY_IPV4

__all__ = ["NetnsHost", "OsHost"]

_BACKLOG = 128
_DNS_PORT = 53
_FAMILIES: dict[Family, int] = {4: socket.AF_INET, 6: socket.AF_INET6}
_PING_PROTOCOLS: dict[Family, int] = {4: socket.IPPROTO_ICMP, 6: socket.IPPROTO_ICMPV6}
_NON_BLOCKING = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC

_BLACKHOLE = "blackhole"  # the interface's name
_ROUTE_KINDS = {errno.ENETUNREACH: "throw", errno.EHOSTUNREACH: "unreachable"}  # ip-route(8)

_Part = TypeVar("_Part", bound=Closeable)


class OsHost(ServiceHost):
    """Real sockets. `place` is where they are opened and programs started, a namespace say; `resolv_conf` is where
    `nameservers` looks (resolv.conf(5)), behind the servers of `dns_server`.
    """

    def __init__(
        self,
        loop: Loop,
        *,
        name: str = "os",
        place: Place = HERE,
        resolv_conf: str = "/etc/resolv.conf",
    ) -> None:
        super().__init__(loop, name)
        self._watcher = FdWatcher(loop)
        self._place = place
        self._resolv_conf = resolv_conf
        self._open: dict[Closeable, None] = {}
        self._parked: dict[tuple[Endpoint, Endpoint], socket.socket] = {}
        self._programs = Programs(place)
        self._peeks = kernel_peeks()  # asked while there are descriptors to ask with

    def open_stream(self, remote: Endpoint, local: Endpoint | None = None) -> OsStream:
        sock = self._socket(remote.address.version, socket.SOCK_STREAM)
        if local is not None:
            self._bind(sock, local)
        stream = self._stream(sock, remote)
        address = str(remote.address), remote.port
        error = sock.connect_ex(address)
        if (
            error == errno.EINPROGRESS
        ):  # over loopback it is done all the same, one way or the other: connect(2) tells when asked again
            error = sock.connect_ex(address)
        stream.connecting(error)
        return stream

    def open_listener(self, local: Endpoint) -> OsListener:
        sock = self._socket(local.address.version, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._bind(sock, local)
        try:
            sock.listen(_BACKLOG)
        except OSError as error:
            sock.close()
            raise HostError(error.errno or errno.EIO, f"listen on {local}") from None
        return self._keep(OsListener(self.loop, self._watcher, sock, self._stream, self._forget))

    def open_datagram(self, local: Endpoint | None = None) -> OsDatagram:
        bound = local or Endpoint(ANY_IPV4, 0)
        sock = self._socket(bound.address.version, socket.SOCK_DGRAM)
        self._bind(sock, bound)
        return self._keep(OsDatagram(self._watcher, sock, self._forget, self._messages))

    def open_ping(self, family: Family = 4, source: IPAddress | None = None) -> OsPing:
        sock = self._socket(family, socket.SOCK_DGRAM, _PING_PROTOCOLS[family])
        if source is not None:
            self._bind(sock, Endpoint(source, 0))
        return self._keep(OsPing(self._watcher, sock, self._forget))

    def open_command(self, command: str) -> OsStream:
        sock = self._programs.open(command)
        stream = self._stream(sock, socket_endpoint(sock.getpeername()))
        stream.accepted()
        return stream

    def open_path_stream(self, path: str) -> OsStream:
        sock, error = connect_path(path)
        stream = self._stream(sock, NO_ENDPOINT)
        stream.connecting(error)
        return stream

    def open_path_listener(self, path: str) -> OsListener:
        return self._keep(OsListener(self.loop, self._watcher, listen_path(path), self._stream, self._forget))

    @property
    def moves_streams(self) -> bool:
        with self._socket(4, socket.SOCK_STREAM) as probe:
            return may_repair(probe)

    def park_stream(self, stream: StreamSocket) -> StreamSnapshot:
        if not isinstance(stream, OsStream) or stream not in self._open or not stream.connected or stream.error:
            return super().park_stream(stream)
        state, sock = stream.park()
        self._parked[state.local, state.remote] = sock
        return state

    def restore_stream(self, state: StreamSnapshot) -> OsStream:
        stream = self._stream(self._socket(state.remote.address.version, socket.SOCK_STREAM), state.remote)
        try:
            stream.take_over(state, partial(self._end_parked, state.local, state.remote))
        except HostError:
            stream.abort()
            self._reset_parked(state.local, state.remote)
            raise
        return stream

    def _end_parked(self, local: Endpoint, remote: Endpoint) -> int | None:
        """Close the socket that a connection was taken out of, in silence: what it has not sent, None if it is not here."""
        parked = self._parked.pop((local, remote), None)
        if parked is None:
            return None
        unsent = count_unsent(parked)
        parked.close()
        return unsent

    def _reset_parked(self, local: Endpoint, remote: Endpoint) -> None:
        parked = self._parked.pop((local, remote), None)
        if parked is not None:
            revive(parked)
            parked.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
            parked.close()

    def nameservers(self) -> list[Endpoint]:
        return [*self.served_nameservers(), *_read_nameservers(Path(self._resolv_conf))]

    @cached_property
    def _messages(self) -> Messages:
        return Messages()

    def close(self) -> None:
        with self.loop:
            super().close()
            while self._open:
                self._open.popitem()[0].close()
            while self._parked:
                self._parked.popitem()[1].close()
            self._programs.close()
            self._watcher.close()

    def _socket(self, family: Family, kind: int, protocol: int = 0) -> socket.socket:
        try:
            sock = self._place.call(socket.socket, _FAMILIES[family], kind | _NON_BLOCKING, protocol)
        except OSError as error:
            what = "a ping socket, which net.ipv4.ping_group_range grants" if protocol else "a socket"
            raise HostError(error.errno or errno.EIO, f"open {what}") from None
        if family == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        return sock

    def _bind(self, sock: socket.socket, local: Endpoint) -> None:
        try:
            sock.bind((str(local.address), local.port))
        except OSError as error:
            sock.close()
            raise HostError(error.errno or errno.EIO, f"bind {local}") from None

    def _stream(self, sock: socket.socket, remote: Endpoint) -> OsStream:
        make = PeekStream if sock.family != socket.AF_UNIX and self._peeks else OsStream
        return self._keep(make(self.loop, self._watcher, sock, remote, self._forget))

    def _keep(self, part: _Part) -> _Part:
        self._open[part] = None
        return part

    def _forget(self, part: Closeable) -> None:
        self._open.pop(part, None)


class NetnsHost(OsHost):
    """Real sockets in `namespace`, whose `lo` gets `addresses`. The namespace is its maker's to close.

    `nameservers` is what `nameservers()` ends with, behind the servers of `dns_server`; both are written into the
    namespace's /etc/resolv.conf, for C libraries that run inside. `groups` are the group ids of the process that opens its
    sockets, this one unless said otherwise: what ping_group_range is about.
    """

    def __init__(
        self,
        loop: Loop,
        namespace: Namespace,
        *,
        name: str = "netns",
        addresses: Sequence[Address] = ("192.0.2.1",),
        nameservers: Sequence[Address] = (),
    ) -> None:
        super().__init__(loop, name=name, place=namespace)
        self.namespace = namespace
        self.groups = (os.getegid(), *os.getgroups())
        self._has_blackhole = False
        self._configured = [endpoint(server, _DNS_PORT) for server in nameservers]
        for address in addresses:
            self.add_address(address)
        self._write_nameservers()

    def add_address(self, address: Address) -> None:
        """A machine with this address exists."""
        machine = endpoint(address, 0).address
        self.namespace.add_address(f"{machine}/{machine.max_prefixlen}")

    def unreachable(self, network: str, error: int = errno.ENETUNREACH) -> None:
        """Packets to `network` are refused at once, with ENETUNREACH or EHOSTUNREACH."""
        if error not in _ROUTE_KINDS:
            raise LocalError(f"error {error}: ENETUNREACH or EHOSTUNREACH is allowed")
        self.namespace.add_route(network, kind=_ROUTE_KINDS[error])

    def blackhole(self, network: str) -> None:
        """Packets to `network` vanish."""
        if not self._has_blackhole:
            self.namespace.add_blackhole(_BLACKHOLE)
            self._has_blackhole = True
        self.namespace.add_route(network, link=_BLACKHOLE)

    def set_ping_group_range(self, low: int, high: int) -> None:
        """Who may open ping sockets from now on: groups `low` to `high`; (1, 0) is nobody."""
        self.namespace.set_ping_group_range(low, high)

    def dns_server(self, zone: Mapping[str, str | list[str]], address: Address = "127.0.0.53", port: int = _DNS_PORT) -> DnsServer:
        server = super().dns_server(zone, address, port)
        self._write_nameservers()
        return server

    def nameservers(self) -> list[Endpoint]:
        return [*self.served_nameservers(), *self._configured]

    def _write_nameservers(self) -> None:
        """resolv.conf(5) has no port numbers."""
        self.namespace.set_nameservers(str(server.address) for server in self.nameservers() if server.port == _DNS_PORT)


def _read_nameservers(path: Path) -> list[Endpoint]:
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return []
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            with suppress(ValueError):
                found.append(Endpoint(ip_address(words[1]), _DNS_PORT))
    return found
