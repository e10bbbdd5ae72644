"""The DHCP server of a user-mode network (RFC 2131, options RFC 2132), sans-IO: a message and the time in, at most one reply out.

How each message is answered:

- DISCOVER: an offer, with the address reserved for a minute (4.3.1). With the rapid commit option: an acknowledgement at once
  (RFC 4039 3.1), for nobody else here could have offered something.
- REQUEST with our server identifier (SELECTING): an acknowledgement if the address is the one offered, else a NAK. With
  another server's: our offer is withdrawn, in silence.
- REQUEST without server identifier, with a requested address (INIT-REBOOT): a NAK for an address outside the network or for
  one that this client does not have; silence for a client we know nothing of (4.3.2).
- REQUEST with `ciaddr` only (RENEWING, REBINDING): extended if the address is the client's, or nobody's: a fresh emulator meets
  guests that leased from the one before it. Else a NAK. We are this network's only server, so both states get the same answer.
- DECLINE: the address is not given to anyone for ten minutes. RELEASE: it is free, and remembered as the client's.
- INFORM: an acknowledgement with the parameters, without address and lease times (4.3.5).
- A BOOTP request, which has no message type: a BOOTREPLY of 300 octets, with an address that stays the client's (RFC 1534 2).

The reply goes where the table of 4.1 (page 23) says: to `ciaddr` if the client has one, to the broadcast address if it set the
broadcast flag, else to the new address at its hardware address. A NAK is broadcast. Client identifiers are returned (RFC 6842
3). Options follow in the order of the parameter request list, the others after them, and those that would not fit the size the
client takes (option 57, at least 576 octets of datagram) are left out.

A host that boots finds its file in `file` and in option 67, and the server in `siaddr` and in option 66: the name that
`tftp_server_name` gives, and the gateway unless that name is an address. A boot file that is a URL of HTTP comes with the vendor
class "HTTPClient", as UEFI wants it. Where option 121 is asked for and there are routes, it comes without option 3: its router
is one of the routes then (RFC 3442, "DHCP Client Behavior").

Messages through a relay (`giaddr`) are dropped: nothing on this network relays. Before offering an address the server does not
probe whether somebody uses it (a SHOULD of 2.2).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from netemu.net.clock import SECOND
from netemu.user.leases import Lease, LeaseTable
from netemu.user.options import UserOptions
from netemu.wire.address import BROADCAST_MAC, MacAddress
from netemu.wire.dhcpv4 import (
    BOOTREPLY,
    BOOTREQUEST,
    MINIMUM_LENGTH,
    DhcpMessageType,
    DhcpOption,
    Dhcpv4,
    pack_addresses,
    pack_classless_routes,
    pack_domain_search,
)
from netemu.wire.fields import ANY_IPV4
from netemu.wire.ipv4 import MINIMUM_HEADER_LENGTH
from netemu.wire.udp import HEADER_LENGTH

__all__ = ["DhcpReply", "DhcpServer"]

OFFER_TIME: Final = 60 * SECOND  # how long an offer is reserved; RFC 2131 leaves it to the server (3.1)
DECLINE_TIME: Final = 600 * SECOND  # how long a refused address rests; likewise (4.3.3)
_FOR_EVER: Final = 0xFFFFFFFF * SECOND  # what "infinity" is to DHCP (RFC 2131 3.3)
_LIMITED_BROADCAST: Final = IPv4Address("255.255.255.255")
_MINIMUM_DATAGRAM: Final = 576  # what every client must take (RFC 2131 2); the least value of option 57 (RFC 2132 9.10)
_EVERYWHERE: Final = IPv4Network("0.0.0.0/0")
_HEADERS: Final = MINIMUM_HEADER_LENGTH + HEADER_LENGTH


_NO_OPTIONS: Final[Mapping[int, bytes]] = {}


@dataclass(frozen=True, slots=True)
class DhcpReply:
    """A message for port 68 of `destination`, in a frame to `mac`."""

    message: Dhcpv4
    destination: IPv4Address
    mac: MacAddress


class DhcpServer:
    """Leases the addresses of `options.pool`. Counters: `dhcp-` and the reason why a message was not answered."""

    def __init__(self, options: UserOptions, counters: Counter[str]) -> None:
        self.leases = LeaseTable(options.pool, dict(options.static_lease))
        self._options = options
        self._counters = counters
        self._lease_time = options.lease_time * SECOND
        self._parameters = _parameters(options)
        self._next_server = _next_server(options)
        self._file = (options.bootfile or "").encode()
        self._handlers: dict[DhcpMessageType | None, Callable[[Dhcpv4, int], DhcpReply | None]] = {
            DhcpMessageType.DISCOVER: self._discover,
            DhcpMessageType.REQUEST: self._request,
            DhcpMessageType.DECLINE: self._decline,
            DhcpMessageType.RELEASE: self._release,
            DhcpMessageType.INFORM: self._inform,
        }

    def receive(self, message: Dhcpv4, now: int) -> DhcpReply | None:
        """The answer to `message`, which came to port 67; None for silence. `now` is in nanoseconds."""
        if self._options.disable_dhcp:
            return self._ignore("disabled")
        if message.op != BOOTREQUEST:
            return self._ignore("not-a-request")
        if message.giaddr != ANY_IPV4:
            return self._ignore("relayed")
        if DhcpOption.DHCP_MESSAGE_TYPE not in message.options:
            return self._bootp(message, now)
        handler = self._handlers.get(message.message_type)
        if handler is None:
            return self._ignore("unknown-type")
        return handler(message, now)

    def deadline(self) -> int | None:
        return self.leases.deadline()

    def expire(self, now: int) -> None:
        self.leases.expire(now)

    def _ignore(self, reason: str) -> DhcpReply | None:
        self._counters[f"dhcp-{reason}"] += 1
        return None

    # What each message does

    def _discover(self, message: Dhcpv4, now: int) -> DhcpReply | None:
        client = _client(message)
        address = self.leases.choose(client, message.chaddr, message.requested_address)
        if address is None:
            return self._ignore("pool-exhausted")
        if DhcpOption.RAPID_COMMIT in message.options:
            return self._bind(message, address, now, {int(DhcpOption.RAPID_COMMIT): b""})
        current = self.leases.of_client(client)
        if current is None or current.state != "bound":  # a lease is not shortened by the question what it is
            self.leases.put(Lease(address, client, message.chaddr, "offered", now + OFFER_TIME))
        return self._grant(message, DhcpMessageType.OFFER, address)

    def _request(self, message: Dhcpv4, now: int) -> DhcpReply | None:
        server, requested = message.server_identifier, message.requested_address
        if server is not None:
            return self._selecting(message, server, requested, now)
        if message.ciaddr != ANY_IPV4:
            return self._extend(message, now)
        if requested is not None:
            return self._init_reboot(message, requested, now)
        return self._ignore("request-without-address")

    def _selecting(self, message: Dhcpv4, server: IPv4Address, requested: IPv4Address | None, now: int) -> DhcpReply | None:
        client = _client(message)
        if server != self._options.host:
            self.leases.withdraw(client)
            return self._ignore("other-server")
        lease = self.leases.of_client(client)
        if lease is None or not lease.holds or requested != lease.address:
            return self._nak(message, "this address was not offered to you")
        return self._bind(message, lease.address, now)

    def _init_reboot(self, message: Dhcpv4, requested: IPv4Address, now: int) -> DhcpReply | None:
        if requested not in self._options.net:
            return self._nak(message, "this address is not of this network")
        lease = self.leases.of_client(_client(message))
        if lease is None:
            return self._ignore("unknown-client")
        if requested != lease.address:
            return self._nak(message, "this address is not yours")
        return self._bind(message, requested, now)

    def _extend(self, message: Dhcpv4, now: int) -> DhcpReply | None:
        if not self.leases.available_to(_client(message), message.chaddr, message.ciaddr):
            return self._nak(message, "this address is not yours")
        return self._bind(message, message.ciaddr, now)

    def _decline(self, message: Dhcpv4, now: int) -> DhcpReply | None:
        address, client = message.requested_address, _client(message)
        lease = self.leases.of_client(client)
        if message.server_identifier != self._options.host or lease is None or lease.address != address:
            return self._ignore("decline-ignored")
        self._counters["dhcp-declined"] += 1
        self.leases.put(Lease(lease.address, client, message.chaddr, "declined", now + DECLINE_TIME))
        return None

    def _release(self, message: Dhcpv4, now: int) -> DhcpReply | None:
        lease = self.leases.of_client(_client(message))
        if message.server_identifier != self._options.host or lease is None or lease.address != message.ciaddr:
            return self._ignore("release-ignored")
        self.leases.release(lease, now)
        return None

    def _inform(self, message: Dhcpv4, now: int) -> DhcpReply | None:
        del now  # an INFORM changes nothing
        if message.ciaddr not in self._options.net:
            return self._ignore("inform-without-address")
        return self._reply(message, DhcpMessageType.ACK, ANY_IPV4, self._parameters)

    def _bootp(self, message: Dhcpv4, now: int) -> DhcpReply | None:
        """There is no second message: the address is bound at once, and never asked for again."""
        client = _client(message)
        address = self.leases.choose(client, message.chaddr, None if message.ciaddr == ANY_IPV4 else message.ciaddr)
        if address is None:
            return self._ignore("pool-exhausted")
        self.leases.put(Lease(address, client, message.chaddr, "bound", now + _FOR_EVER))
        reply = self._answer(message, address, {})
        reply = self._with_options(reply, _in_wanted_order(message, self._parameters), MINIMUM_LENGTH)
        return DhcpReply(reply, *_where(message, address, to_all=False))

    # How it is said

    def _bind(self, message: Dhcpv4, address: IPv4Address, now: int, more: Mapping[int, bytes] = _NO_OPTIONS) -> DhcpReply:
        hostname = message.options.get(DhcpOption.HOST_NAME)
        text = None if hostname is None else hostname.decode("latin-1")
        expires = now + self._granted(message) * SECOND
        self.leases.put(Lease(address, _client(message), message.chaddr, "bound", expires, text))
        return self._grant(message, DhcpMessageType.ACK, address, more)

    def _granted(self, message: Dhcpv4) -> int:
        """Seconds: what the client asks for, but no more than is configured (4.3.1)."""
        return min(message.lease_time or self._options.lease_time, self._options.lease_time)

    def _grant(
        self, message: Dhcpv4, kind: DhcpMessageType, address: IPv4Address, more: Mapping[int, bytes] = _NO_OPTIONS
    ) -> DhcpReply:
        lease_time = self._granted(message)
        times = {
            DhcpOption.IP_ADDRESS_LEASE_TIME: lease_time,
            DhcpOption.RENEWAL_TIME_VALUE: lease_time // 2,  # T1 and T2 (RFC 2131 4.4.5)
            DhcpOption.REBINDING_TIME_VALUE: lease_time * 7 // 8,
        }
        packed = {int(option): value.to_bytes(4, "big") for option, value in times.items()}
        return self._reply(message, kind, address, {**more, **packed, **self._parameters})

    def _nak(self, message: Dhcpv4, text: str) -> DhcpReply:
        self._counters["dhcp-nak"] += 1
        return self._reply(message, DhcpMessageType.NAK, ANY_IPV4, {DhcpOption.MESSAGE: text.encode()})

    def _reply(self, message: Dhcpv4, kind: DhcpMessageType, address: IPv4Address, available: dict[int, bytes]) -> DhcpReply:
        head = {
            int(DhcpOption.DHCP_MESSAGE_TYPE): bytes((kind,)),
            int(DhcpOption.SERVER_IDENTIFIER): self._options.host.packed,
        }
        if DhcpOption.CLIENT_IDENTIFIER in message.options:
            head[DhcpOption.CLIENT_IDENTIFIER] = message.options[DhcpOption.CLIENT_IDENTIFIER]
        nak = kind == DhcpMessageType.NAK
        reply = self._answer(message, address, head)
        if nak:
            reply = replace(reply, siaddr=ANY_IPV4, file=b"")
        if kind != DhcpMessageType.ACK:
            reply = replace(reply, ciaddr=ANY_IPV4)
        reply = self._with_options(reply, _in_wanted_order(message, available), self._size_limit(message))
        return DhcpReply(reply, *_where(message, address, to_all=nak))

    def _answer(self, message: Dhcpv4, address: IPv4Address, options: Mapping[int, bytes]) -> Dhcpv4:
        """What every answer has in common."""
        return Dhcpv4(
            op=BOOTREPLY,
            xid=message.xid,
            chaddr=message.chaddr,
            ciaddr=message.ciaddr,
            yiaddr=address,
            siaddr=self._next_server,
            file=self._file,
            broadcast=message.broadcast,
            options=options,
        )

    def _size_limit(self, message: Dhcpv4) -> int:
        """Octets of message that the client takes, and one datagram to it holds."""
        size = message.options.get(DhcpOption.MAXIMUM_DHCP_MESSAGE_SIZE, b"")
        taken = max(int.from_bytes(size, "big"), _MINIMUM_DATAGRAM)
        return min(taken, self._options.mtu) - _HEADERS

    def _with_options(self, reply: Dhcpv4, options: dict[int, bytes], limit: int) -> Dhcpv4:
        for code, value in options.items():
            longer = replace(reply, options={**reply.options, code: value})
            if len(longer.pack()) > limit:
                self._counters["dhcp-option-left-out"] += 1
            else:
                reply = longer
        return reply


def _parameters(options: UserOptions) -> dict[int, bytes]:
    """What is configured, the same for every client. A restricted network has no way out, so it names none."""
    parameters = {
        int(DhcpOption.SUBNET_MASK): options.net.netmask.packed,
        int(DhcpOption.INTERFACE_MTU): options.mtu.to_bytes(2, "big"),
        int(DhcpOption.BROADCAST_ADDRESS): options.net.broadcast_address.packed,
    }
    if not options.restrict:
        parameters[DhcpOption.ROUTER] = pack_addresses(options.host)
        if not options.disable_dns:
            parameters[DhcpOption.DOMAIN_NAME_SERVER] = pack_addresses(options.dns)
    for option, text in _texts(options):
        if text is not None:
            parameters[option] = text.encode()
    if options.dnssearch:
        parameters[DhcpOption.DOMAIN_SEARCH] = pack_domain_search(options.dnssearch)
    if options.ntp:
        parameters[DhcpOption.NETWORK_TIME_PROTOCOL_SERVERS] = pack_addresses(*options.ntp)
    if options.route:
        default = () if options.restrict else ((_EVERYWHERE, options.host),)
        parameters[DhcpOption.CLASSLESS_STATIC_ROUTE] = pack_classless_routes((*options.route, *default))
    return parameters


def _texts(options: UserOptions) -> tuple[tuple[DhcpOption, str | None], ...]:
    by_http = (options.bootfile or "").startswith(("http://", "https://"))
    return (
        (DhcpOption.HOST_NAME, options.hostname),
        (DhcpOption.DOMAIN_NAME, options.domainname),
        (DhcpOption.TFTP_SERVER_NAME, options.tftp_server_name),
        (DhcpOption.BOOTFILE_NAME, options.bootfile),
        (DhcpOption.VENDOR_CLASS_IDENTIFIER, "HTTPClient" if by_http else None),
    )


def _next_server(options: UserOptions) -> IPv4Address:
    """`siaddr`: who has the boot file; nobody is named where there is none to be had."""
    try:
        return IPv4Address(options.tftp_server_name or "")
    except ValueError:
        boots = options.tftp is not None or options.bootfile is not None
        return options.host if boots else ANY_IPV4


def _in_wanted_order(message: Dhcpv4, available: dict[int, bytes]) -> dict[int, bytes]:
    """Lease times and mask first (the mask stands before the router, RFC 2132 3.3), then what is asked for in its order (9.8)."""
    first = (
        DhcpOption.IP_ADDRESS_LEASE_TIME,
        DhcpOption.RENEWAL_TIME_VALUE,
        DhcpOption.REBINDING_TIME_VALUE,
        DhcpOption.SUBNET_MASK,
    )
    wanted = message.options.get(DhcpOption.PARAMETER_REQUEST_LIST, b"")
    if DhcpOption.CLASSLESS_STATIC_ROUTE in wanted and DhcpOption.CLASSLESS_STATIC_ROUTE in available:
        available = {code: value for code, value in available.items() if code != DhcpOption.ROUTER}
    order = dict.fromkeys([*first, *wanted, *available])
    return {int(code): available[code] for code in order if code in available}


def _client(message: Dhcpv4) -> bytes:
    """What tells clients apart: the client identifier, else hardware type and address (RFC 2131 4.2, RFC 2132 9.14)."""
    return message.options.get(DhcpOption.CLIENT_IDENTIFIER) or b"\1" + message.chaddr


def _where(message: Dhcpv4, address: IPv4Address, *, to_all: bool) -> tuple[IPv4Address, MacAddress]:
    """Where the reply goes (RFC 2131 4.1, page 23)."""
    if to_all:
        return _LIMITED_BROADCAST, BROADCAST_MAC
    if message.ciaddr != ANY_IPV4:
        return message.ciaddr, message.chaddr
    if message.broadcast:
        return _LIMITED_BROADCAST, BROADCAST_MAC
    return address, message.chaddr
