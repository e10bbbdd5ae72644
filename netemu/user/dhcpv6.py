"""The DHCPv6 server of a user-mode network (RFC 8415 18.3), sans-IO: a message and the time in, at most one reply out.

How each message is answered, where `dhcpv6` is `stateful`:

- SOLICIT: an ADVERTISE with an address for each identity, reserved for a minute, and preference 255, since there is no other
  server to wait for (18.2.1); with Rapid Commit a REPLY, and the addresses are leased (18.3.1).
- REQUEST: the addresses are leased (18.3.2). An identity that names one of another network gets status NotOnLink.
- RENEW, REBIND: extended where the address is the client's, or nobody's: a fresh emulator meets guests that leased from the
  one before it. Addresses of another network come back with lifetimes of zero; else the identity gets NoBinding (18.3.4, 18.3.5).
- CONFIRM: Success if all its addresses are of this network, else NotOnLink (18.3.3).
- RELEASE: the addresses are free, and remembered as the client's (18.3.7). DECLINE: not given to anyone for ten minutes (18.3.8).
- INFORMATION-REQUEST: the parameters alone (18.3.6). This is all that a `stateless` server answers.

Where no address is left the identity gets NoAddrsAvail. A reply has the options that the client asks for by number: DNS servers
and search list (RFC 3646), the boot file's URL (RFC 5970), and the information refresh time.

What section 16 discards is counted and not answered: a message without client identifier, for another server, with a server
identifier or an identity where there may be none, or to a unicast address where the type has to be multicast. The other types get
UseMulticast then, for the server offers no unicast. What is not done: temporary addresses, prefix delegation, reconfiguration,
relays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from ipaddress import IPv6Address
from typing import Final

from netemu.net.clock import SECOND
from netemu.user.leases import Lease, LeaseState, LeaseTable
from netemu.user.options import UserOptions
from netemu.wire.address import MacAddress
from netemu.wire.dhcpv6 import (
    Dhcpv6,
    Dhcpv6MessageType,
    Dhcpv6Option,
    Dhcpv6StatusCode,
    IaAddress,
    IaNa,
    Status,
    duid_ll,
    pack_addresses,
    pack_domain_list,
)

__all__ = ["Dhcpv6Server"]

OFFER_TIME: Final = 60 * SECOND
DECLINE_TIME: Final = 600 * SECOND
_REFRESH_TIME: Final = 86_400  # seconds; IRT_DEFAULT (RFC 8415 7.6)
_IDENTITIES: Final = 16  # of one message: the answers to more would not fit the smallest MTU
_ONLY_SERVER: Final = b"\xff"  # preference 255: choose at once (RFC 8415 18.2.1)

_Type = Dhcpv6MessageType
_Status = Dhcpv6StatusCode
_NAMES_SERVER: Final = frozenset({_Type.REQUEST, _Type.RENEW, _Type.RELEASE, _Type.DECLINE})  # and may be unicast (RFC 8415 16)
_NAMES_NO_SERVER: Final = frozenset({_Type.SOLICIT, _Type.CONFIRM, _Type.REBIND})
_NO_ADDRESSES: Final = Status(_Status.NO_ADDRS_AVAIL, "no address is left")
_NOT_ON_LINK: Final = Status(_Status.NOT_ON_LINK, "this address is not of this network")
_NO_BINDING: Final = Status(_Status.NO_BINDING, "this address is not yours")


class Dhcpv6Server:
    """Leases the addresses of `options.pool6`. Counters: `dhcpv6-` and the reason why a message was not answered."""

    def __init__(self, options: UserOptions, mac: MacAddress, counters: Counter[str]) -> None:
        self.leases: LeaseTable[IPv6Address] = LeaseTable(options.pool6)
        self.duid = duid_ll(mac)
        self._options = options
        self._counters = counters
        self._parameters = _parameters(options)
        stateful: dict[int, Callable[[Dhcpv6, MacAddress, int], Dhcpv6]] = {
            _Type.SOLICIT: self._solicit,
            _Type.REQUEST: self._request,
            _Type.RENEW: self._extend,
            _Type.REBIND: self._extend,
            _Type.RELEASE: self._release,
            _Type.DECLINE: self._decline,
        }
        self._handlers = stateful if options.dhcpv6 == "stateful" else {}

    def receive(self, message: Dhcpv6, mac: MacAddress, now: int, *, unicast: bool = False) -> Dhcpv6 | None:
        """The answer to `message`, which came to port 547 from `mac`; None for silence. `now` is in nanoseconds."""
        kind = message.message_type
        reason = self._discarded(message, unicast=unicast)
        if reason is not None:
            self._counters[f"dhcpv6-{reason}"] += 1
            return None
        if kind == _Type.INFORMATION_REQUEST:
            return self._reply(message)
        if kind == _Type.CONFIRM and self._options.dhcpv6 == "stateful":
            return self._confirm(message)
        handler = self._handlers.get(kind)
        if handler is None:
            self._counters["dhcpv6-unknown-type"] += 1
            return None
        if unicast:
            return self._status(message, Status(_Status.USE_MULTICAST, "send to ff02::1:2"))
        return handler(message, mac, now)

    def deadline(self) -> int | None:
        return self.leases.deadline()

    def expire(self, now: int) -> None:
        self.leases.expire(now)

    def _discarded(self, message: Dhcpv6, *, unicast: bool) -> str | None:
        """Why the message is not to be looked at (RFC 8415 16); None: it is."""
        kind, server = message.message_type, message.server_id
        if message.client_id is None and kind != _Type.INFORMATION_REQUEST:
            return "no-client-id"
        if (server is None and kind in _NAMES_SERVER) or server not in (None, self.duid):
            return "other-server"
        if server is not None and kind in _NAMES_NO_SERVER:
            return "names-server"
        if unicast and kind not in _NAMES_SERVER:
            return "unicast"
        if kind == _Type.INFORMATION_REQUEST and message.value(Dhcpv6Option.IA_NA) is not None:
            return "information-for-identity"
        if len(message.values(Dhcpv6Option.IA_NA)) > _IDENTITIES:
            return "too-many-identities"
        return None

    # What each message does

    def _solicit(self, message: Dhcpv6, mac: MacAddress, now: int) -> Dhcpv6:
        if message.rapid_commit:
            identities = [self._lease(message, each, mac, now, "bound") for each in message.ia_nas]
            return self._reply(message, *identities, extra=((Dhcpv6Option.RAPID_COMMIT, b""),))
        identities = [self._lease(message, each, mac, now, "offered") for each in message.ia_nas]
        return self._reply(message, *identities, kind=_Type.ADVERTISE, extra=((Dhcpv6Option.PREFERENCE, _ONLY_SERVER),))

    def _request(self, message: Dhcpv6, mac: MacAddress, now: int) -> Dhcpv6:
        identities = []
        for each in message.ia_nas:
            if self._is_off_link(each):
                identities.append(IaNa(each.iaid, status=_NOT_ON_LINK))
            else:
                identities.append(self._lease(message, each, mac, now, "bound"))
        return self._reply(message, *identities)

    def _extend(self, message: Dhcpv6, mac: MacAddress, now: int) -> Dhcpv6:
        identities = []
        for each in message.ia_nas:
            client = _client(message, each)
            mine = [asked.address for asked in each.addresses if self.leases.available_to(client, mac, asked.address)]
            if mine:
                identities.append(self._bind(client, each.iaid, mine[0], mac, now, "bound"))
            elif self._is_off_link(each):
                gone = tuple(IaAddress(asked.address, 0, 0) for asked in each.addresses)
                identities.append(IaNa(each.iaid, addresses=gone))
            else:
                identities.append(IaNa(each.iaid, status=_NO_BINDING))
        return self._reply(message, *identities)

    def _confirm(self, message: Dhcpv6) -> Dhcpv6 | None:
        addresses = [asked.address for each in message.ia_nas for asked in each.addresses]
        if not addresses:
            self._counters["dhcpv6-confirm-without-address"] += 1
            return None
        on_link = all(address in self._options.ipv6_net for address in addresses)
        return self._status(message, Status(_Status.SUCCESS) if on_link else _NOT_ON_LINK)

    def _release(self, message: Dhcpv6, mac: MacAddress, now: int) -> Dhcpv6:
        del mac
        return self._give_up(message, lambda lease: self.leases.release(lease, now))

    def _decline(self, message: Dhcpv6, mac: MacAddress, now: int) -> Dhcpv6:
        def rest(lease: Lease[IPv6Address]) -> None:
            self._counters["dhcpv6-declined"] += 1
            self.leases.put(Lease(lease.address, lease.client, mac, "declined", now + DECLINE_TIME))

        return self._give_up(message, rest)

    def _give_up(self, message: Dhcpv6, end: Callable[[Lease[IPv6Address]], None]) -> Dhcpv6:
        """`end` what the client has of what it names; identities that have nothing of it get NoBinding."""
        unknown = []
        for each in message.ia_nas:
            lease = self.leases.of_client(_client(message, each))
            if lease is not None and lease.holds and any(asked.address == lease.address for asked in each.addresses):
                end(lease)
            else:
                unknown.append(IaNa(each.iaid, status=_NO_BINDING))
        return self._status(message, Status(_Status.SUCCESS), *unknown)

    # Bindings

    def _is_off_link(self, identity: IaNa) -> bool:
        return any(asked.address not in self._options.ipv6_net for asked in identity.addresses)

    def _lease(self, message: Dhcpv6, identity: IaNa, mac: MacAddress, now: int, state: LeaseState) -> IaNa:
        client = _client(message, identity)
        wanted = identity.addresses[0].address if identity.addresses else None
        address = self.leases.choose(client, mac, wanted)
        if address is None:
            self._counters["dhcpv6-pool-exhausted"] += 1
            return IaNa(identity.iaid, status=_NO_ADDRESSES)
        return self._bind(client, identity.iaid, address, mac, now, state)

    def _bind(self, client: bytes, iaid: int, address: IPv6Address, mac: MacAddress, now: int, state: LeaseState) -> IaNa:
        seconds = self._options.lease_time
        current = self.leases.of_client(client)
        if state == "bound":
            self.leases.put(Lease(address, client, mac, state, now + seconds * SECOND))
        elif current is None or current.state != "bound":  # a lease is not shortened by the question what it is
            self.leases.put(Lease(address, client, mac, state, now + OFFER_TIME))
        # T1 and T2 at 0.5 and 0.8 of the preferred lifetime (RFC 8415 21.4)
        return IaNa(iaid, seconds // 2, seconds * 4 // 5, (IaAddress(address, seconds, seconds),))

    # How it is said

    def _status(self, message: Dhcpv6, status: Status, *identities: IaNa) -> Dhcpv6:
        head = ((Dhcpv6Option.STATUS_CODE, status.pack()),)
        return Dhcpv6(_Type.REPLY, message.transaction_id, self._identifiers(message) + head + _packed(identities))

    def _reply(
        self,
        message: Dhcpv6,
        *identities: IaNa,
        kind: Dhcpv6MessageType = _Type.REPLY,
        extra: tuple[tuple[int, bytes], ...] = (),
    ) -> Dhcpv6:
        asked = dict.fromkeys(message.requested_options)  # what is asked for twice is told once
        wanted = tuple((code, self._parameters[code]) for code in asked if code in self._parameters)
        if message.message_type == _Type.INFORMATION_REQUEST and Dhcpv6Option.INFORMATION_REFRESH_TIME in asked:
            wanted += ((Dhcpv6Option.INFORMATION_REFRESH_TIME, _REFRESH_TIME.to_bytes(4, "big")),)
        options = self._identifiers(message) + extra + _packed(identities) + wanted
        return Dhcpv6(kind, message.transaction_id, options)

    def _identifiers(self, message: Dhcpv6) -> tuple[tuple[int, bytes], ...]:
        server = ((int(Dhcpv6Option.SERVERID), self.duid),)
        client = message.client_id
        return server if client is None else ((int(Dhcpv6Option.CLIENTID), client), *server)


def _client(message: Dhcpv6, identity: IaNa) -> bytes:
    """What tells bindings apart: the client's DUID and the identity (RFC 8415 12)."""
    return (message.client_id or b"") + identity.iaid.to_bytes(4, "big")


def _packed(identities: tuple[IaNa, ...]) -> tuple[tuple[int, bytes], ...]:
    return tuple((int(Dhcpv6Option.IA_NA), identity.pack()) for identity in identities)


def _parameters(options: UserOptions) -> dict[int, bytes]:
    """What is configured, the same for every client. A restricted network has no way out, so it names no DNS server."""
    parameters = {}
    if not options.restrict:
        parameters[int(Dhcpv6Option.DNS_SERVERS)] = pack_addresses(options.ipv6_dns)
    if options.dnssearch:
        parameters[int(Dhcpv6Option.DOMAIN_LIST)] = pack_domain_list(options.dnssearch)
    if options.bootfile is not None:
        url = options.bootfile if "://" in options.bootfile else f"tftp://[{options.ipv6_host}]/{options.bootfile}"
        parameters[int(Dhcpv6Option.BOOTFILE_URL)] = url.encode()
    return parameters
