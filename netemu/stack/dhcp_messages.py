"""What a DHCP client says and understands: its messages field by field, and the lease in an answer.

`DhcpRequests` builds the messages of RFC 2131 table 5, one method each, for one client; which of them when is the state machine's
business (`dhcp_client`). `lease_from` decodes an OFFER or ACK.

Documents: RFC 2131 4.4 and table 5, RFC 2132, RFC 3442.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from netemu.errors import LocalError
from netemu.stack.lease import Lease
from netemu.wire.address import MacAddress
from netemu.wire.dhcpv4 import BOOTREQUEST, DhcpMessageType, DhcpOption, Dhcpv4
from netemu.wire.fields import ANY_IPV4

__all__ = ["DEFAULT_PARAMETERS", "DhcpClientConfig", "DhcpRequests", "lease_from"]

DEFAULT_PARAMETERS: Final = (
    DhcpOption.SUBNET_MASK,
    DhcpOption.CLASSLESS_STATIC_ROUTE,  # before ROUTER (RFC 3442)
    DhcpOption.ROUTER,
    DhcpOption.DOMAIN_NAME_SERVER,
    DhcpOption.HOST_NAME,
    DhcpOption.DOMAIN_NAME,
    DhcpOption.INTERFACE_MTU,
    DhcpOption.DOMAIN_SEARCH,
    DhcpOption.RENEWAL_TIME_VALUE,
    DhcpOption.REBINDING_TIME_VALUE,
)

_MAXIMUM_MESSAGE: Final = 1500 - 28  # what an Ethernet frame holds behind the IP and UDP headers
_CLASSFUL_PREFIXES: Final = ((0x80, 8), (0xC0, 16), (0x100, 24))  # RFC 791 3.2: first octet below, prefix length


@dataclass(frozen=True, slots=True)
class DhcpClientConfig:
    """What a client asks for and how.

    `parameters` are the option numbers of the parameter request list; `requested` is an address to suggest in DISCOVER;
    `broadcast` sets the flag for clients that cannot receive unicast yet (RFC 2131 4.1), which ours can; `options` are
    added to DISCOVER and REQUEST as they are. What no message can carry is a `LocalError`.
    """

    hostname: str | None = None
    client_identifier: bytes | None = None
    parameters: tuple[int, ...] = DEFAULT_PARAMETERS
    requested: IPv4Address | None = None
    broadcast: bool = False
    options: tuple[tuple[int, bytes], ...] = ()

    def __post_init__(self) -> None:
        if self.hostname is not None and not (self.hostname.isascii() and self.hostname):
            raise LocalError(f"DhcpClientConfig.hostname is {self.hostname!r}: give one or more ASCII characters")
        numbers = (*self.parameters, *(number for number, _ in self.options))
        if not all(0 < number < 255 and number != DhcpOption.OPTION_OVERLOAD for number in numbers):
            raise LocalError(f"DhcpClientConfig names the options {numbers}: give numbers from 1 to 254, but not 52")


class DhcpRequests:
    """The messages of the client with hardware address `mac`."""

    def __init__(self, mac: MacAddress, config: DhcpClientConfig) -> None:
        self._mac = mac
        self._config = config
        self._common: dict[int, bytes] = {DhcpOption.PARAMETER_REQUEST_LIST: bytes(config.parameters)}
        self._common[DhcpOption.MAXIMUM_DHCP_MESSAGE_SIZE] = _MAXIMUM_MESSAGE.to_bytes(2, "big")
        self._identity: dict[int, bytes] = {}
        if config.client_identifier is not None:
            self._identity[DhcpOption.CLIENT_IDENTIFIER] = config.client_identifier
        if config.hostname is not None:
            self._common[DhcpOption.HOST_NAME] = config.hostname.encode("ascii")
        self._common.update(config.options)

    def discover(self, xid: int, secs: int) -> Dhcpv4:
        """DHCPDISCOVER."""
        options = {} if self._config.requested is None else {DhcpOption.REQUESTED_IP_ADDRESS: self._config.requested.packed}
        return self._message(DhcpMessageType.DISCOVER, xid, secs, options | self._common)

    def select(self, xid: int, secs: int, offer: Lease) -> Dhcpv4:
        """DHCPREQUEST that chooses `offer` (state SELECTING)."""
        return self._message(DhcpMessageType.REQUEST, xid, secs, self._named(offer) | self._common)

    def reboot(self, xid: int, secs: int, address: IPv4Address) -> Dhcpv4:
        """DHCPREQUEST for a remembered address (state INIT-REBOOT): no server identifier."""
        options: dict[int, bytes] = {DhcpOption.REQUESTED_IP_ADDRESS: address.packed}
        return self._message(DhcpMessageType.REQUEST, xid, secs, options | self._common)

    def extend(self, xid: int, secs: int, address: IPv4Address) -> Dhcpv4:
        """DHCPREQUEST for more time (RENEWING, REBINDING): the address is in ciaddr, neither option 50 nor 54."""
        return self._message(DhcpMessageType.REQUEST, xid, secs, self._common, ciaddr=address)

    def decline(self, xid: int, lease: Lease) -> Dhcpv4:
        """DHCPDECLINE: somebody uses the address."""
        return self._message(DhcpMessageType.DECLINE, xid, 0, self._named(lease))

    def release(self, xid: int, lease: Lease) -> Dhcpv4:
        """DHCPRELEASE: the address is in ciaddr."""
        options = self._named(lease)
        del options[DhcpOption.REQUESTED_IP_ADDRESS]
        return self._message(DhcpMessageType.RELEASE, xid, 0, options, ciaddr=lease.address)

    @staticmethod
    def _named(lease: Lease) -> dict[int, bytes]:
        options: dict[int, bytes] = {DhcpOption.REQUESTED_IP_ADDRESS: lease.address.packed}
        if lease.server is not None:
            options[DhcpOption.SERVER_IDENTIFIER] = lease.server.packed
        return options

    def _message(
        self, kind: DhcpMessageType, xid: int, secs: int, options: dict[int, bytes], *, ciaddr: IPv4Address = ANY_IPV4
    ) -> Dhcpv4:
        broadcast = self._config.broadcast and ciaddr == ANY_IPV4
        everything = {DhcpOption.DHCP_MESSAGE_TYPE: bytes((kind,))} | self._identity | options
        return Dhcpv4(BOOTREQUEST, xid, self._mac, ciaddr, secs=min(secs, 0xFFFF), broadcast=broadcast, options=everything)


def lease_from(message: Dhcpv4) -> Lease:
    """What an OFFER or ACK gives. Without a subnet mask the prefix is that of the address's class (RFC 2131 4.4.1)."""
    options = message.options
    mtu = options.get(DhcpOption.INTERFACE_MTU)
    return Lease(
        address=message.yiaddr,
        prefix_length=_prefix_length(message),
        server=message.server_identifier,
        routers=message.addresses(DhcpOption.ROUTER),
        dns=message.addresses(DhcpOption.DOMAIN_NAME_SERVER),
        lease_time=message.lease_time,
        renewal_time=message.u32(DhcpOption.RENEWAL_TIME_VALUE),
        rebinding_time=message.u32(DhcpOption.REBINDING_TIME_VALUE),
        domain=_text(options.get(DhcpOption.DOMAIN_NAME)),
        hostname=_text(options.get(DhcpOption.HOST_NAME)),
        mtu=None if mtu is None else int.from_bytes(mtu, "big"),
        options=dict(options),
    )


def _prefix_length(message: Dhcpv4) -> int:
    mask = message.u32(DhcpOption.SUBNET_MASK)
    if mask is not None:
        ones = mask.bit_count()
        if mask == (0xFFFFFFFF << (32 - ones)) & 0xFFFFFFFF:
            return ones
    first = int(message.yiaddr) >> 24
    return next(prefix for limit, prefix in _CLASSFUL_PREFIXES if first < limit)


def _text(value: bytes | None) -> str | None:
    """Option text: some senders end it with a zero octet (RFC 2132 2)."""
    return None if value is None else value.rstrip(b"\0").decode("ascii", "backslashreplace")
