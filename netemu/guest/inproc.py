"""The in-process guest: netemu's own TCP/IP stack behind a port, driven by a test.

It answers to the `Guest` protocol in microseconds and lives in the network's clock, virtual or real. The verbs block: each
holds the loop still (`with loop`), starts something, and lets the network live until it is done or its time is over. Beside
the verbs it shows what a frame-level test needs: `frames` is what its NIC received, `send_frame` puts any octets on the wire,
and `stack` is the stack itself with its counters.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import closing
from ipaddress import IPv4Address, IPv6Address, IPv6Interface, ip_address, ip_interface
from typing import Final

from netemu.errors import HostError, LocalError, NetemuTimeoutError
from netemu.guest.ping import ping
from netemu.guest.protocol import CommandResult, Lease, PingResult, require
from netemu.net.clock import nanoseconds
from netemu.net.engine import Pump
from netemu.net.loop import Loop
from netemu.net.port import Frame, Port
from netemu.net.sockets import DEFAULT_TIMEOUT, Address, Datagram, Listener, Stream, blocking_connect, endpoint
from netemu.stack.addresses6 import AddressState
from netemu.stack.conflict import QUICK, ClaimTiming
from netemu.stack.dhcp6_client import Dhcp6State, Lease6
from netemu.stack.dhcp_client import DhcpState
from netemu.stack.dhcp_messages import DhcpClientConfig
from netemu.stack.dns_client import DNS_PORT, DnsOutcome, DnsQuery
from netemu.stack.dual import DualStack
from netemu.stack.ipv6 import Ipv6Layer
from netemu.stack.router_discovery import Slaac
from netemu.stack.tcp import TcpConfig
from netemu.wire.address import Endpoint, Family, IPAddress, MacAddress

__all__ = ["InprocGuest"]

_CAPABILITIES: Final = frozenset(
    {
        "dhcp4",
        "slaac",
        "dhcp6",
        "ipv6",
        "ping",
        "resolve",
        "tcp.connect",
        "tcp.listen",
        "tcp.half-close",
        "udp",
        "frames",
        "virtual-clock",
    }
)
_HOLDING: Final = frozenset({Dhcp6State.BOUND, Dhcp6State.RENEWING, Dhcp6State.REBINDING, Dhcp6State.INFORMED})
_FRAMES_KEPT: Final = 1000


class _Nic:
    """The stack as an engine, with a record of what came in and a way to send frames beside it."""

    def __init__(self, stack: DualStack) -> None:
        self.stack = stack
        self.received: deque[Frame] = deque(maxlen=_FRAMES_KEPT)
        self.injected: deque[Frame] = deque()
        self.deadline = stack.deadline
        self.expire = stack.expire

    def receive(self, frame: Frame, now: int) -> None:
        self.received.append(frame)
        self.stack.receive(frame, now)

    def transmit(self, now: int) -> Iterable[Frame]:
        frames = self.stack.transmit(now)
        if not self.injected:
            return frames
        injected, self.injected = self.injected, deque()
        return [*injected, *frames]


class InprocGuest:
    """A guest with the hardware address `mac`; `port` is what a netdev's port (or a link) is connected to.

    `getrandbits` makes identifiers, ports and sequence numbers, so a seeded generator makes a run repeat. `dhcp` says what the
    DHCP client asks for, `claim` how long it looks for conflicts before it uses an address.
    """

    kind = "inproc"

    def __init__(
        self,
        loop: Loop,
        name: str,
        mac: MacAddress,
        *,
        getrandbits: Callable[[int], int],
        mtu: int = 1500,
        tcp: TcpConfig | None = None,
        dhcp: DhcpClientConfig | None = None,
        claim: ClaimTiming = QUICK,
    ) -> None:
        self.name = name
        self.mac = mac
        self.port = Port(loop, name)
        self.stack = DualStack(mac, getrandbits=getrandbits, mtu=mtu, tcp=tcp)
        self._loop = loop
        self._getrandbits = getrandbits
        self._dhcp_config, self._claim = dhcp, claim
        self._nic = _Nic(self.stack)
        self._pump = Pump(self.port, self._nic)
        self.stack.wakeup = self._pump.kick

    def __repr__(self) -> str:
        return f"<InprocGuest {self.name} {self.mac} {self.address}>"

    @property
    def capabilities(self) -> frozenset[str]:
        return _CAPABILITIES

    @property
    def address(self) -> IPv4Address | None:
        return self.stack.address

    # Addresses.

    def configure(self, address: Address, prefix_length: int, router: Address | None = None) -> None:
        """Set a static address. An IPv4 address comes instead of a leased one; a DHCP client that runs is stopped.

        An IPv6 address comes beside others, and the call returns when nobody has objected to it (RFC 4862 5.4), after a
        second; one that somebody has is a `HostError` EADDRINUSE.
        """
        try:
            interface = ip_interface((str(address), prefix_length))
            gateway = None if router is None else ip_address(router)
        except ValueError as error:
            raise LocalError(f"configure {self.name}: {error}; give an address and a prefix length of 0 to 32, or 128") from None
        with self._loop:
            if isinstance(interface, IPv6Interface) and not isinstance(gateway, IPv4Address):
                self._configure_ipv6(interface, gateway)
            elif not isinstance(interface, IPv6Interface) and not isinstance(gateway, IPv6Address):
                self.stack.stop_dhcp()
                self.stack.configure(interface, gateway)
            else:
                raise LocalError(f"configure {self.name}: the address {interface.ip} and the router {gateway} are of two families")

    def _configure_ipv6(self, interface: IPv6Interface, router: IPv6Address | None) -> None:
        self.stack.configure_ipv6(interface, router, self._loop.now())
        entry = self._ipv6.node.addresses.get(interface.ip)
        assert entry is not None
        self._wait(
            lambda: entry.state is not AddressState.TENTATIVE, DEFAULT_TIMEOUT, f"the detection of duplicates of {interface.ip}"
        )
        if entry.state is AddressState.DUPLICATE:
            raise HostError(errno.EADDRINUSE, f"configure {interface.ip} on {self.name}: somebody on the link has it")

    @property
    def _ipv6(self) -> Ipv6Layer:
        layer = self.stack.ipv6
        assert layer is not None
        return layer

    @property
    def ipv6_addresses(self) -> tuple[IPv6Address, ...]:
        """The IPv6 addresses in use, link-local included; none before IPv6 was asked for."""
        layer = self.stack.ipv6
        if layer is None:
            return ()
        addresses = layer.node.addresses
        return tuple(entry.address for entry in addresses.addresses if addresses.is_usable(entry.address))

    def slaac(self, *, timeout: float = 60.0) -> Slaac:
        """Configure IPv6 from the routers of the link (RFC 4862); returns when no address is tentative any more.

        Without an answer of a router it is a `NetemuTimeoutError`; a router that advertises no prefix gives no address.
        """
        with self._loop:
            node = self.stack.start_ipv6(self._loop.now()).node
            entries = node.addresses.addresses

            def settled() -> bool:
                return node.discovery.heard and all(entry.state is not AddressState.TENTATIVE for entry in entries)

            self._wait(settled, timeout, "a router's advertisement")
            return node.autoconfigured

    @property
    def lease(self) -> Lease | None:
        """The lease in use."""
        return self.stack.dhcp.client.lease if self.stack.dhcp is not None else None

    @property
    def dhcp_state(self) -> DhcpState:
        """Where the DHCP client is (RFC 2131 figure 5)."""
        return self.stack.dhcp.client.state if self.stack.dhcp is not None else DhcpState.STOPPED

    def dhcp4(self, *, timeout: float = 60.0) -> Lease:
        """Lease an address; with a lease in use, ask as after a reboot whether it still holds."""
        with self._loop:
            service = self.stack.start_dhcp(self._loop.now(), self._dhcp_config, self._claim)
            self._wait(lambda: service.client.lease is not None, timeout, "a DHCP lease")
            assert service.client.lease is not None
            return service.client.lease

    def renew(self, *, timeout: float = 60.0) -> Lease:
        """Ask for more time now (RENEWING); the new lease. The client must be bound."""
        with self._loop:
            service, old = self.stack.dhcp, self.lease
            if service is None or old is None:
                raise LocalError(f"guest {self.name} has no lease to renew; call dhcp4() first")
            service.client.renew(self._loop.now())
            self.stack.wake()
            self._wait(lambda: service.client.lease is not old, timeout, "an answer to the renewal")
            if service.client.lease is None:
                raise NetemuTimeoutError(f"guest {self.name} lost its lease: the server refused to renew it")
            return service.client.lease

    def release(self) -> None:
        """Give the lease back (DHCPRELEASE) and have no address."""
        with self._loop:
            service = self.stack.dhcp
            if service is None or service.client.lease is None:
                raise LocalError(f"guest {self.name} has no lease to release; call dhcp4() first")
            service.client.release()
            self.stack.wake()
            self._wait(lambda: self.address is None, DEFAULT_TIMEOUT, "the release")

    def dhcp6(self, *, stateless: bool = False, timeout: float = 60.0) -> Lease6:
        """Lease an IPv6 address, or with `stateless` ask for parameters alone (RFC 8415); returns when it may be used."""
        with self._loop:
            service = self.stack.start_dhcp6(self._loop.now())
            client = service.client
            service.begin(client.inform if stateless else client.start, self._loop.now())
            self.stack.wake()
            addresses = self._ipv6.node.addresses

            def usable() -> bool:
                lease = client.lease
                return (
                    client.state in _HOLDING
                    and lease is not None
                    and all(addresses.is_usable(each.address) for each in lease.addresses)
                )

            self._wait(usable, timeout, "a DHCPv6 lease")
            assert client.lease is not None
            return client.lease

    def release6(self) -> None:
        """Give the DHCPv6 lease back (RELEASE); its addresses are gone."""
        with self._loop:
            service = self.stack.dhcp6
            if service is None or service.client.lease is None:
                raise LocalError(f"guest {self.name} has no DHCPv6 lease to release; call dhcp6() first")
            service.client.release(self._loop.now())
            self.stack.wake()
            self._wait(lambda: service.client.state is Dhcp6State.STOPPED, DEFAULT_TIMEOUT, "the release")

    # Talking.

    def ping(
        self,
        address: Address,
        *,
        count: int = 1,
        size: int = 56,
        ttl: int = 64,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> PingResult:
        """Send `count` echo requests of `size` octets (0 to 65,507), each after the answer to the one before or a second later."""
        destination = endpoint(address, 0).address
        with self._loop as loop, closing(self.stack.echo.open()) as socket:
            deadline = loop.now() + nanoseconds(timeout)
            own = self.address if destination.version == 4 else None
            return ping(loop, socket, destination, own=own, count=count, size=size, ttl=ttl, deadline=deadline)

    def resolve(
        self, name: str, *, server: Address | None = None, family: Family = 4, timeout: float = DEFAULT_TIMEOUT
    ) -> list[IPAddress]:
        """Ask `server`, or those that were given, for A records, or AAAA for family 6; an empty list means that the name has none.

        A server's refusal is a `HostError` EIO, silence a `NetemuTimeoutError`.
        """
        if server is not None:
            servers = [endpoint(server, DNS_PORT)]
        else:
            servers = [Endpoint(address, DNS_PORT) for address in self._nameservers()]
        with self._loop:
            query = DnsQuery(name, servers, self._getrandbits, family)
            self._ask(query, timeout)
        if query.outcome is DnsOutcome.TRUNCATED:
            self._ask_tcp(query, timeout)
        if query.outcome in (DnsOutcome.ASKING, DnsOutcome.TIMED_OUT):
            raise NetemuTimeoutError(f"resolve {name!r} on {self.name}: no answer from {', '.join(map(str, servers))}")
        if query.outcome is DnsOutcome.FAILED:
            raise HostError(errno.EIO, f"resolve {name!r}: the server answered with code {query.response_code}")
        return query.addresses

    def _nameservers(self) -> list[IPAddress]:
        """Those of the leases, then those that routers advertised."""
        found: list[IPAddress] = [*self.lease.dns] if self.lease else []
        if self.stack.dhcp6 is not None and self.stack.dhcp6.client.lease is not None:
            found += self.stack.dhcp6.client.lease.dns
        return [*found, *self.stack.ipv6.node.discovery.dns] if self.stack.ipv6 is not None else found

    def _ask(self, query: DnsQuery, timeout: float) -> None:
        loop = self._loop
        deadline = loop.now() + nanoseconds(timeout)
        with closing(self.stack.udp.open()) as socket:
            socket.on_datagram = query.receive
            while query.outcome is DnsOutcome.ASKING and loop.now() < deadline:
                for payload, destination in query.transmit(loop.now()):
                    socket.send_to(payload, destination)
                loop.run_until(lambda: query.outcome is not DnsOutcome.ASKING, min(deadline, query.deadline() or deadline))

    def _ask_tcp(self, query: DnsQuery, timeout: float) -> None:
        """The same question over TCP (RFC 7766): a length in front of each message."""
        with self.tcp_connect(query.server.address, query.server.port, timeout=timeout) as stream:
            stream.send(len(query.request).to_bytes(2, "big") + query.request, timeout)
            length = int.from_bytes(stream.recv_exactly(2, timeout), "big")
            query.receive_tcp(stream.recv_exactly(length, timeout))

    def tcp_connect(self, address: Address, port: int, *, timeout: float = DEFAULT_TIMEOUT) -> Stream:
        """Open a connection; a refusal or a dead route is a `HostError` with the errno a kernel would give."""
        with self._loop:
            return blocking_connect(self._loop, self.stack.tcp.connect(endpoint(address, port), self._loop.now()), timeout)

    def tcp_listen(self, port: int) -> Listener:
        """Serve TCP on `port`; 0 lets the stack choose."""
        with self._loop:
            return Listener(self._loop, self.stack.tcp.listen(port))

    def udp(self, port: int = 0) -> Datagram:
        """A UDP socket on `port`; 0 lets the stack choose."""
        with self._loop:
            return Datagram(self._loop, self.stack.udp.open(port))

    def run(self, command: str, *, timeout: float = DEFAULT_TIMEOUT) -> CommandResult:  # noqa: ARG002 - the protocol's form
        """No guest of this kind has a shell: always a `LocalError`."""
        require(self, "run")
        raise AssertionError(command)  # `require` has raised

    # Frames.

    @property
    def frames(self) -> tuple[Frame, ...]:
        """The frames that the NIC received and `expect_frame` has not consumed, oldest first; the last 1,000."""
        with self._loop:
            return tuple(self._nic.received)

    def send_frame(self, frame: bytes) -> None:
        """Put `frame` on the wire as it is, whatever it holds."""
        with self._loop:
            self._nic.injected.append(frame)
            self._pump.kick()

    def expect_frame(self, predicate: Callable[[Frame], bool], timeout: float = DEFAULT_TIMEOUT) -> Frame:
        """The first received frame that satisfies `predicate`, waiting for it; it and those before it leave `frames`."""
        received = self._nic.received
        found: list[Frame] = []

        def search() -> bool:
            while received and not found:
                frame = received.popleft()
                if predicate(frame):
                    found.append(frame)
            return bool(found)

        with self._loop:
            self._wait(search, timeout, "the frame expected")
        return found[0]

    def close(self) -> None:
        """Power off: sockets, timers and the lease are gone, without a word to anybody, and the port is free."""
        with self._loop:
            self.stack.close()
            self._nic.injected.clear()
            self._pump.close()
            self.port.disconnect()

    def _wait(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        if not self._loop.run_until(condition, self._loop.now() + nanoseconds(timeout)):
            raise NetemuTimeoutError(
                f"guest {self.name}: {what} did not come within {timeout:g} s of the network's clock (DHCP: {self.dhcp_state.name})"
            )
