"""TCP for an endpoint: connections by their four-tuple, listeners by port (RFC 9293 3.10.7.1 and 3.10.7.2).

Theory of operation. A segment goes to its connection, or as a SYN to a listener, or is answered with a reset. Everything that may
have something to say is in `_touched`, and `work` serves it: first what the application did, then what the connection sends. The
connections' timers are in one `Deadlines`. A connection that is CLOSED and has said its last is forgotten; its socket
keeps what was not read.

Initial sequence numbers and timestamp offsets are a clock plus a keyed hash of the four-tuple (RFC 6528 3, RFC 7323 5.4); the
key comes from `getrandbits`. ICMP errors end a connection only in its handshake (RFC 5461 4.1, RFC 9293 3.9.2.2), and only if they
quote its SYN (RFC 5927 4.1). One about a narrow path makes an open connection's segments smaller (RFC 1191, RFC 8201); what was
made before is fragmented. A listener holds `backlog` connections that are not accepted yet; further SYNs are dropped, and
the peer tries again.

What is not done: SYN cookies; smaller segments from the start for another connection over a path that is known to be narrow.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2s
from typing import Final, TypeAlias

from netemu.errors import LocalError
from netemu.net.clock import SECOND
from netemu.net.sockets import StreamSocket
from netemu.stack.deadlines import Deadlines
from netemu.stack.icmp import IcmpReport
from netemu.stack.ip import IpLayer, IpPacket, choose_port
from netemu.stack.stream import TcpSocket
from netemu.stack.tcp import TcpConfig, reply_to_unknown
from netemu.stack.tcp.config import MINIMUM_MSS
from netemu.stack.tcp.state import HANDSHAKE, State
from netemu.wire.address import Endpoint
from netemu.wire.fields import ANY_IPV4
from netemu.wire.ipv4 import Protocol
from netemu.wire.tcp import ACK, MINIMUM_HEADER_LENGTH, RST, SYN, Tcp

__all__ = ["DEFAULT_BACKLOG", "ORPHAN_TIMEOUT", "TcpLayer", "TcpListener"]

DEFAULT_BACKLOG: Final = 128
ORPHAN_TIMEOUT: Final = 60 * SECOND  # FIN-WAIT-2 without an application ends after this, as in most systems

_TICK: Final = 4000  # nanoseconds; the clock M of RFC 6528 3

_PATH: Final = {
    4: (20, 0),
    6: (40, 1280),
}  # by IP version: the header's octets, and the MTU below which a report is discarded (RFC 8201 4)

_Key: TypeAlias = tuple[int, int, int, int]  # local address and port, remote address and port


class TcpListener:
    """A `netemu.net.sockets.ListenerSocket` of a stack; made by `TcpLayer.listen`."""

    def __init__(self, layer: TcpLayer, ip: IpLayer, port: int, backlog: int) -> None:
        self.port = port
        self.backlog = backlog
        self.pending: set[TcpSocket] = set()  # in the handshake
        self._layer, self._ip = layer, ip
        self._waiting: deque[TcpSocket] = deque()
        self._on_accept: Callable[[StreamSocket], None] | None = None

    @property
    def local(self) -> Endpoint:
        return Endpoint(self._ip.address or ANY_IPV4, self.port)

    @property
    def on_accept(self) -> Callable[[StreamSocket], None] | None:
        """Gets each new connection; setting it hands over those that wait."""
        return self._on_accept

    @on_accept.setter
    def on_accept(self, handler: Callable[[StreamSocket], None] | None) -> None:
        self._on_accept = handler
        while handler is not None and self._waiting:
            _hand_over(self._waiting.popleft(), handler)

    @property
    def full(self) -> bool:
        """No room for another connection."""
        return len(self.pending) + len(self._waiting) >= self.backlog

    def established(self, socket: TcpSocket) -> None:
        """A handshake is done."""
        self.pending.discard(socket)
        if self._on_accept is None:
            self._waiting.append(socket)
        else:
            _hand_over(socket, self._on_accept)

    def close(self) -> None:
        """Stop listening; connections that nobody accepted are reset."""
        self._layer.forget_listener(self)
        for socket in (*self.pending, *self._waiting):
            socket.abort()
        self.pending.clear()
        self._waiting.clear()


def _hand_over(socket: TcpSocket, handler: Callable[[StreamSocket], None]) -> None:
    """Give a new connection to the application; data that came with or before it is announced too."""
    handler(socket)
    if socket.on_change is not None:
        socket.on_change()


class TcpLayer:
    """The TCP of one stack. Its counters are the stack's: `tcp-reset-sent`, `tcp-backlog-full`."""

    def __init__(self, ip: IpLayer, config: TcpConfig) -> None:
        self._ip = ip
        self._config = config
        self._secret = ip.getrandbits(128).to_bytes(16, "big")
        self._sockets: dict[_Key, TcpSocket] = {}
        self._listeners: dict[int, TcpListener] = {}
        self._parents: dict[TcpSocket, TcpListener] = {}  # of connections in the handshake
        self._touched: dict[TcpSocket, None] = {}
        self._deadlines: Deadlines[TcpSocket] = Deadlines()
        self._orphans: dict[TcpSocket, int] = {}

    # What applications ask.

    def connect(self, remote: Endpoint, now: int, port: int = 0) -> TcpSocket:
        """Begin a connection; `HostError` ENETUNREACH, EADDRINUSE (the four-tuple is taken)."""
        address = self._ip.source_for(remote.address)

        def taken(candidate: int) -> bool:
            return candidate in self._listeners or _key(Endpoint(address, candidate), remote) in self._sockets

        port = choose_port(port, taken, self._ip.getrandbits, errno.EADDRINUSE)
        socket = self._create(Endpoint(address, port), remote, now)
        socket.connection.open_active(now)
        return socket

    def listen(self, port: int = 0, backlog: int = DEFAULT_BACKLOG) -> TcpListener:
        """Listen on `port` of every address; EADDRINUSE is a `HostError`."""
        if backlog < 1:
            raise LocalError(f"a backlog of {backlog}: give 1 or more")
        port = choose_port(port, self._listeners.__contains__, self._ip.getrandbits, errno.EADDRINUSE)
        listener = self._listeners[port] = TcpListener(self, self._ip, port, backlog)
        return listener

    def forget_listener(self, listener: TcpListener) -> None:
        """The listener was closed."""
        if self._listeners.get(listener.port) is listener:
            del self._listeners[listener.port]

    def close(self) -> None:
        """Forget every connection and listener, without a word to the peers."""
        for table in (self._sockets, self._listeners, self._parents, self._touched, self._deadlines, self._orphans):
            table.clear()

    # What the stack does.

    def receive(self, packet: IpPacket, now: int) -> None:
        """A segment for us. Raises `WireError`."""
        segment = Tcp.parse(packet.payload, packet.source, packet.destination)
        local = Endpoint(packet.destination, segment.destination_port)
        remote = Endpoint(packet.source, segment.source_port)
        socket = self._sockets.get(_key(local, remote))
        if socket is not None and socket.connection.accepts_new_incarnation(segment, now):
            self._forget(socket)
            socket = None
        if socket is None:
            self._receive_unknown(segment, local, remote, now)
            return
        socket.connection.receive(segment, now)
        self._notice(socket)
        self._touch(socket)

    def report(self, report: IcmpReport, now: int) -> bool:
        """An error about a segment of ours; False if no connection can have sent it."""
        local, remote = report.ports
        socket = self._sockets.get((int(report.source), local, int(report.destination), remote))
        if socket is None:
            return False
        if socket.connection.state in HANDSHAKE:
            if int.from_bytes(report.transport[4:8], "big") != socket.initial_sequence:
                return False
            if report.errno != errno.EMSGSIZE:
                socket.connection.unreachable(report.errno, now)
                self._touch(socket)
        elif report.errno == errno.EMSGSIZE:
            header, least = _PATH[report.source.version]
            if report.path_mtu >= least:
                mss = report.path_mtu - header - MINIMUM_HEADER_LENGTH
                socket.connection.path_mss_lowered(mss, int.from_bytes(report.transport[4:8], "big"), now)
                self._touch(socket)
        return True

    def work(self, now: int) -> None:
        """Serve what was touched: its segments are sent, its timer is set."""
        while self._touched:
            touched, self._touched = self._touched, {}
            for socket in touched:
                self._serve(socket, now)

    @property
    def waiting(self) -> bool:
        """Something was touched since `work`."""
        return bool(self._touched)

    def deadline(self) -> int | None:
        return self._deadlines.first()

    def expire(self, now: int) -> None:
        """Run the timers that are due; `work` follows."""
        for socket in self._deadlines.due(now):
            if self._orphans.get(socket, now + 1) <= now:
                self._forget(socket)
                continue
            socket.connection.expire(now)
            self._touched[socket] = None

    def _touch(self, socket: TcpSocket) -> None:
        if not self._touched:
            self._ip.wake()
        self._touched[socket] = None

    def _create(self, local: Endpoint, remote: Endpoint, now: int) -> TcpSocket:
        config = self._fitting_config(remote)
        socket = TcpSocket(self._touch, config, local, remote, self._numbers(local, remote, now))
        self._sockets[_key(local, remote)] = socket
        self._touch(socket)
        return socket

    def _fitting_config(self, remote: Endpoint) -> TcpConfig:
        """The configuration with segments that fit the link (RFC 9293 3.7.1)."""
        mss = max(MINIMUM_MSS, self._ip.payload_limit(remote.address) - MINIMUM_HEADER_LENGTH)
        return self._config if mss >= self._config.mss else replace(self._config, mss=mss)

    def _numbers(self, local: Endpoint, remote: Endpoint, now: int) -> tuple[int, int]:
        """The initial sequence number and the timestamp offset of a new connection."""
        who = b"".join(end.address.packed + end.port.to_bytes(2, "big") for end in (local, remote))
        digest = blake2s(who, key=self._secret, digest_size=8).digest()
        return (int.from_bytes(digest[:4], "big") + now // _TICK) & 0xFFFFFFFF, int.from_bytes(digest[4:], "big")

    def _receive_unknown(self, segment: Tcp, local: Endpoint, remote: Endpoint, now: int) -> None:
        listener = self._listeners.get(local.port)
        if listener is not None and segment.flags & (SYN | ACK | RST) == SYN:
            if listener.full:
                self._ip.counters["tcp-backlog-full"] += 1
                return
            socket = self._create(local, remote, now)
            self._parents[socket] = listener
            listener.pending.add(socket)
            socket.connection.open_passive(segment, now)
            return
        reset = reply_to_unknown(segment)
        if reset is not None:
            self._ip.counters["tcp-reset-sent"] += 1
            payload = reset.pack(local.address, remote.address)
            self._ip.send(local.address, remote.address, Protocol.TCP, payload, dont_fragment=True)

    def _serve(self, socket: TcpSocket, now: int) -> None:
        connection = socket.connection
        socket.serve(now)
        source, destination = connection.local.address, connection.remote.address
        for segment in connection.transmit(now):
            payload = segment.pack(source, destination)
            self._ip.send(source, destination, Protocol.TCP, payload, dont_fragment=True)
        self._notice(socket)
        if connection.state is State.CLOSED:
            self._forget(socket)
            return
        deadline = connection.deadline()
        if socket.orphaned and connection.state is State.FIN_WAIT_2:
            until = self._orphans.setdefault(socket, now + ORPHAN_TIMEOUT)
            deadline = until if deadline is None else min(deadline, until)
        else:
            self._orphans.pop(socket, None)
        self._deadlines.set(socket, deadline)

    def _notice(self, socket: TcpSocket) -> None:
        """Tell the application what is new, and the listener that a handshake is over."""
        socket.notice()
        listener = self._parents.get(socket)
        if listener is None:
            return
        if socket.connected:
            del self._parents[socket]
            listener.established(socket)
        elif socket.connection.state is State.CLOSED:
            del self._parents[socket]
            listener.pending.discard(socket)

    def _forget(self, socket: TcpSocket) -> None:
        key = _key(socket.local, socket.remote)
        if self._sockets.get(key) is socket:
            del self._sockets[key]
        self._orphans.pop(socket, None)
        self._touched.pop(socket, None)
        self._deadlines.set(socket, None)


def _key(local: Endpoint, remote: Endpoint) -> _Key:
    return int(local.address), local.port, int(remote.address), remote.port
