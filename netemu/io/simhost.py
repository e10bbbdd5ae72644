"""A host whose Internet is in memory and whose time is the loop's: the usual host of a test in virtual time.

One object is both the machine that runs the user network and everything that machine can reach. A test adds addresses, listens on
them to play servers, and says which networks are unreachable or silent:

    host = SimHost(loop)
    host.add_address("198.51.100.7", path=("192.0.2.1",))        # a server one router away
    host.unreachable("203.0.113.0/25", errno.EHOSTUNREACH, reporter="192.0.2.1")
    host.blackhole("203.0.113.128/25")
    with host.tcp_listen("198.51.100.7", 80) as listener: ...

Addresses and networks are of either family. 127.0.0.0/8, ::1 and the host's own addresses, 192.0.2.254 and 2001:db8::254 unless
said otherwise (RFC 5737, RFC 3849), always exist; to everything else there is no route (ENETUNREACH). Everything that happens
goes through `Loop.call_soon` in the order in which it was asked for, and port numbers are counted, so a run repeats exactly.

ping_group_range has Linux's meaning (Documentation/networking/ip-sysctl.rst): whoever is in a group from `low` to `high` may open
ping sockets, nobody if `low` is the larger.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from netemu.errors import HostError, LocalError
from netemu.io.services import ServiceHost
from netemu.io.simnet import UNREACHABLE_ERRORS, Fate, IcmpReport, Network, PortTable, Route, RouteTable, unspecified
from netemu.io.simsockets import SimDatagram, SimListener, SimPing, SimStream
from netemu.io.streamstate import StreamSnapshot
from netemu.net.clock import SECOND
from netemu.net.loop import Loop
from netemu.net.sockets import Address, StreamSocket, endpoint
from netemu.wire.address import Endpoint, Family, IPAddress
from netemu.wire.fields import ANY_IPV4

__all__ = ["SimHost"]

_LOOPBACK = IPv4Network("127.0.0.0/8")  # RFC 1122 3.2.1.3 (g)
_LOOPBACK_IPV6 = IPv6Network("::1/128")  # RFC 4291 2.5.3
_LOCALHOST: dict[Family, IPAddress] = {4: IPv4Address("127.0.0.1"), 6: IPv6Address("::1")}
_SYN_GIVEN_UP = 127 * SECOND  # six retransmissions, Linux's tcp_syn_retries
_DEFAULT_TTL = 64
_DNS_PORT = 53


class SimHost(ServiceHost):
    """An in-memory host and its Internet.

    `address` and `address6` are the host's own, the sources of what it sends; `nameservers` is what `nameservers()` begins
    with; `buffer` is how many octets a stream holds per direction; `groups` are the group ids of the process that runs the
    user network, and `ping_group_range` decides whether one of them may ping; `moves_streams` False is a process without
    CAP_NET_ADMIN.
    """

    def __init__(
        self,
        loop: Loop,
        *,
        name: str = "host",
        address: Address = "192.0.2.254",
        address6: Address = "2001:db8::254",
        nameservers: Sequence[Address] = (),
        buffer: int = 65_536,
        groups: Iterable[int] = (100,),
        ping_group_range: tuple[int, int] = (0, 2_147_483_647),
        moves_streams: bool = True,
    ) -> None:
        super().__init__(loop, name)
        if buffer < 1:
            raise LocalError(f"buffer={buffer}: a stream holds one octet at least")
        self.address = _of_family(4, address, "address")
        self.address6 = _of_family(6, address6, "address6")
        self.groups = tuple(groups)
        self.ping_group_range = ping_group_range
        self.tcp_ports: PortTable[SimListener | SimStream] = PortTable("TCP")
        self.udp_ports: PortTable[SimDatagram] = PortTable("UDP")
        self._nameservers = [endpoint(server, _DNS_PORT) for server in nameservers]
        self._buffer = buffer
        self._accepted: dict[SimStream, None] = {}
        self._moves_streams = moves_streams
        self._parked: dict[tuple[Endpoint, Endpoint], SimStream] = {}
        self._pings: list[SimPing] = []
        self._routes = RouteTable(Route(Fate.REFUSED, error=errno.ENETUNREACH))
        for network in (_LOOPBACK, _LOOPBACK_IPV6, ip_network(self.address), ip_network(self.address6)):
            self._routes.set(network, Route(Fate.ARRIVES))

    def add_address(self, address: Address, *, path: Sequence[Address] = ()) -> None:
        """A machine with this address exists, behind the routers of `path` (nearest first; each takes one from the TTL)."""
        machine = endpoint(address, 0).address
        routers = tuple(_of_family(machine.version, router, "a router of path") for router in path)
        self._routes.set(ip_network(machine), Route(Fate.ARRIVES, routers))

    def unreachable(self, network: str, error: int = errno.ENETUNREACH, *, reporter: Address | None = None) -> None:
        """Packets to `network` are refused with ENETUNREACH or EHOSTUNREACH.

        With a `reporter` that router's ICMP error comes back later; without one the host's own routing table refuses at once
        (a `HostError` for datagrams and pings).
        """
        if error not in UNREACHABLE_ERRORS:
            raise LocalError(f"error {error}: ENETUNREACH or EHOSTUNREACH is allowed")
        refused = _network(network)
        source = None if reporter is None else _of_family(refused.version, reporter, "reporter")
        self._routes.set(refused, Route(Fate.REFUSED, error=error, reporter=source))

    def blackhole(self, network: str) -> None:
        """Packets to `network` vanish; a connection gives up with ETIMEDOUT after 127 s."""
        self._routes.set(_network(network), Route(Fate.LOST))

    def set_ping_group_range(self, low: int, high: int) -> None:
        """Who may open ping sockets from now on: groups `low` to `high`; (1, 0) is nobody."""
        self.ping_group_range = (low, high)

    def open_stream(self, remote: Endpoint, local: Endpoint | None = None) -> SimStream:
        bound = local or Endpoint(unspecified(remote.address), 0)
        self._require_address(bound)
        source = self.tcp_ports.choose(Endpoint(self.source_for(bound.address, remote.address), bound.port))
        stream = SimStream(self, source, remote, self._buffer)
        self.tcp_ports.hold(source, stream)
        try:
            self.send_packet(
                remote.address,
                _DEFAULT_TTL,
                "connect",
                lambda _ttl: self._connect(stream),
                lambda report: stream.refuse(report.error),
            )
        except HostError as refusal:
            refused = refusal.errno or 0
            self.loop.call_soon(lambda: stream.refuse(refused))
        if self._routes.find(remote.address).fate is Fate.LOST:
            stream.give_up_at(self.loop.now() + _SYN_GIVEN_UP)
        return stream

    def open_listener(self, local: Endpoint) -> SimListener:
        self._require_address(local)
        listener = SimListener(self, self.tcp_ports.choose(local))
        self.tcp_ports.hold(listener.local, listener)
        return listener

    def open_datagram(self, local: Endpoint | None = None) -> SimDatagram:
        bound = local or Endpoint(ANY_IPV4, 0)
        self._require_address(bound)
        datagram = SimDatagram(self, self.udp_ports.choose(bound))
        self.udp_ports.hold(datagram.local, datagram)
        return datagram

    def open_ping(self, family: Family = 4, source: IPAddress | None = None) -> SimPing:
        if source is not None:
            self._require_address(Endpoint(source, 0))
        low, high = self.ping_group_range
        if not any(low <= group <= high for group in self.groups):
            raise HostError(errno.EACCES, f"open a ping socket (groups {self.groups}, ping_group_range {low} {high})")
        ping = SimPing(self, family)
        self._pings.append(ping)
        return ping

    def nameservers(self) -> list[Endpoint]:
        return [*self._nameservers, *self.served_nameservers()]

    def close(self) -> None:
        super().close()
        for holder in (*self.tcp_ports, *self._accepted, *self.udp_ports, *self._pings):
            holder.close()
        self._parked.clear()
        self._pings.clear()

    @property
    def moves_streams(self) -> bool:
        return self._moves_streams

    def park_stream(self, stream: StreamSocket) -> StreamSnapshot:
        if not self._moves_streams:
            raise HostError(errno.EPERM, f"move {stream!r} away")
        if not isinstance(stream, SimStream) or not stream.connected or stream.error:
            return super().park_stream(stream)
        connected = stream not in self._accepted
        state, waiting = stream.park()
        if connected:
            self.tcp_ports.hold(state.local, waiting)
        self._parked[state.local, state.remote] = waiting
        return state

    def restore_stream(self, state: StreamSnapshot) -> SimStream:
        operation = f"move the connection {state.local} -> {state.remote} to host {self.name}"
        if not self._moves_streams:
            raise HostError(errno.EPERM, operation)
        waiting = self._parked.get((state.local, state.remote))
        if waiting is None:
            raise HostError(errno.EADDRNOTAVAIL, f"{operation}, where it is not parked")
        stream = SimStream(self, state.local, state.remote, self._buffer)
        stream.take_over(waiting, state)
        del self._parked[state.local, state.remote]
        if self.tcp_ports.find(state.local) is waiting:
            self.tcp_ports.hold(state.local, stream)
        else:
            self._accepted[stream] = None
        return stream

    def source_for(self, bound: IPAddress, destination: IPAddress) -> IPAddress:
        """The source address of a packet from a socket bound to `bound`."""
        if not bound.is_unspecified:
            return bound
        if destination.is_loopback:
            return _LOCALHOST[destination.version]
        return self.address if destination.version == 4 else self.address6

    def send_packet(
        self,
        destination: IPAddress,
        ttl: int,
        operation: str,
        arrive: Callable[[int], None],
        failed: Callable[[IcmpReport], None],
    ) -> None:
        """Send a packet on its way: a turn later `arrive` gets the TTL it has left, or `failed` the ICMP error, or neither.

        Raises `HostError` where this host itself refuses: no route, or a TTL that is not 1 to 255 (EINVAL).
        """
        if not 1 <= ttl <= 255:
            raise HostError(errno.EINVAL, f"{operation} with TTL {ttl}")
        route = self._routes.find(destination)
        report = route.report(ttl)
        if report is not None:
            self.loop.call_soon(lambda: failed(report))
        elif route.fate is Fate.ARRIVES:
            self.loop.call_soon(lambda: arrive(ttl - len(route.path)))
        elif route.fate is Fate.REFUSED:
            raise HostError(route.error, operation)

    def forget_stream(self, stream: SimStream) -> None:
        """`stream` is closed: its port is free again."""
        if stream in self._accepted:
            del self._accepted[stream]
        else:
            self.tcp_ports.release(stream.local, stream)

    def _connect(self, client: SimStream) -> None:
        if client.closed:
            return
        listener = self.tcp_ports.find(client.remote)
        if not isinstance(listener, SimListener) or listener.full:
            client.refuse(errno.ECONNREFUSED)
            return
        server = SimStream(self, client.remote, client.local, self._buffer)
        self._accepted[server] = None
        client.join(server)
        listener.arrive(server)

    def _require_address(self, local: Endpoint) -> None:
        if not local.address.is_unspecified and self._routes.find(local.address).fate is not Fate.ARRIVES:
            raise HostError(errno.EADDRNOTAVAIL, f"bind {local}, add_address makes it one of the host's")


def _network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise LocalError(f"network {text!r}: {error}; write 203.0.113.0/24 or 2001:db8:1::/48") from None


def _of_family(family: Family, given: Address, what: str) -> IPAddress:
    address = endpoint(given, 0).address
    if address.version != family:
        raise LocalError(f"{what} {address}: an IPv{family} address is needed here")
    return address
