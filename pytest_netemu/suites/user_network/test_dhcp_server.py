"""The DHCP server of a user-mode network: what it offers, grants, refuses and forgets (RFC 2131, RFC 2132)."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from netemu.wire.address import BROADCAST_MAC, MacAddress
from netemu.wire.dhcpv4 import (
    BOOTREQUEST,
    CLIENT_PORT,
    MINIMUM_LENGTH,
    SERVER_PORT,
    DhcpMessageType,
    DhcpOption,
    Dhcpv4,
)
from netemu.wire.ether import Ethernet, EtherType
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.udp import Udp
from pytest_netemu.packet import Packet
from pytest_netemu.station import ANY, LIMITED_BROADCAST
from pytest_netemu.suites import judges
from pytest_netemu.tester import Tester

pytestmark = pytest.mark.netemu_requires("arp", "dhcp4.server")

DISCOVER, OFFER, REQUEST = DhcpMessageType.DISCOVER, DhcpMessageType.OFFER, DhcpMessageType.REQUEST
ACK, NAK = DhcpMessageType.ACK, DhcpMessageType.NAK

_WANTED = bytes((DhcpOption.SUBNET_MASK, DhcpOption.ROUTER, DhcpOption.DOMAIN_NAME_SERVER, DhcpOption.SUBNET_MASK))
_ROUTER_FIRST = bytes((DhcpOption.ROUTER, DhcpOption.SUBNET_MASK))
_COOKIE_END = 240  # where options begin in a message
_END = 255
_ELSEWHERE = IPv4Address("192.0.2.77")  # TEST-NET-1: certainly another network's
_POOL = 16


def _mac(number: int) -> MacAddress:
    return MacAddress(bytes((0x52, 0x54, 0, 0x7E, 0x58, number)))


def _offer(tester: Tester, **more: object) -> Packet:
    return tester.exchange_dhcp(DISCOVER, OFFER, **more)  # type: ignore[arg-type] # the keywords of exchange_dhcp


@judges("rfc1534/2/01")
@pytest.mark.netemu_requires("dhcp4.bootp")
def test_a_bootp_client_gets_a_bootp_reply(netemu_tester: Tester) -> None:
    """No message type, and no more than the 300 octets of RFC 951."""
    request = Dhcpv4(BOOTREQUEST, 0xB007, netemu_tester.mac)
    datagram = Udp(CLIENT_PORT, SERVER_PORT, request.pack()).pack(ANY, LIMITED_BROADCAST)
    packet = netemu_tester.ip(LIMITED_BROADCAST, Protocol.UDP, datagram, source=ANY)
    netemu_tester.send(netemu_tester.ethernet(BROADCAST_MAC, EtherType.IPV4, packet.pack()))
    reply = netemu_tester.expect(Dhcpv4, xid=0xB007)
    assert reply[Dhcpv4].yiaddr in netemu_tester.backend.net
    assert DhcpOption.DHCP_MESSAGE_TYPE not in reply[Dhcpv4].options
    assert len(reply[Udp].payload) <= MINIMUM_LENGTH


def _option_codes(packet: Packet) -> list[int]:
    """The option numbers as they stand in the message, each as often as it is there."""
    data, codes, at = packet[Udp].payload, [], _COOKIE_END
    while at < len(data) and data[at] != _END:
        if data[at] == 0:
            at += 1
            continue
        codes.append(data[at])
        at += 2 + data[at + 1]
    return codes


def _silence(tester: Tester, within: float = 3) -> None:
    tester.silence(Dhcpv4, within=within, op=2)


# The offer


@judges("rfc2131/4.3.1/01")
def test_an_offer_has_an_address_of_the_network(netemu_tester: Tester) -> None:
    offer = _offer(netemu_tester)[Dhcpv4]
    backend = netemu_tester.backend
    assert offer.yiaddr in backend.net
    assert offer.yiaddr not in (backend.gateway, backend.dns, backend.net.network_address, backend.net.broadcast_address)


@judges("rfc2131/2/01")
@pytest.mark.parametrize("xid", [0, 1, 0xFFFF_FFFF])
def test_an_offer_has_the_transaction_of_the_question(netemu_tester: Tester, xid: int) -> None:
    netemu_tester.send_dhcp(DISCOVER, xid=xid)
    netemu_tester.expect(Dhcpv4, lambda message: message.message_type == OFFER, xid=xid)


@judges("rfc2131/4.1/01")
def test_an_answer_goes_to_the_client_port(netemu_tester: Tester) -> None:
    udp = _offer(netemu_tester)[Udp]
    assert (udp.source_port, udp.destination_port) == (SERVER_PORT, CLIENT_PORT)


@judges("rfc2132/9.6/01")
def test_an_offer_says_that_it_is_one(netemu_tester: Tester) -> None:
    offer = _offer(netemu_tester)[Dhcpv4]
    assert offer.options[DhcpOption.DHCP_MESSAGE_TYPE] == bytes((OFFER,))


@judges("rfc2132/9.7/01")
def test_an_offer_names_the_server(netemu_tester: Tester) -> None:
    assert _offer(netemu_tester)[Dhcpv4].server_identifier is not None


@judges("rfc2131/4.1/02")
def test_the_server_is_where_the_client_can_reach_it(netemu_tester: Tester) -> None:
    packet = _offer(netemu_tester)
    assert packet[Dhcpv4].server_identifier == packet[IPv4].source
    assert packet[IPv4].source in netemu_tester.backend.net


@judges("rfc2131/4.3.1/02")
def test_an_offer_has_a_lease_time(netemu_tester: Tester) -> None:
    assert _offer(netemu_tester)[Dhcpv4].lease_time


@judges("rfc2131/4.3.1/03")
def test_an_option_is_there_only_once(netemu_tester: Tester) -> None:
    codes = _option_codes(_offer(netemu_tester, options={DhcpOption.PARAMETER_REQUEST_LIST: _WANTED}))
    assert sorted(codes) == sorted(set(codes)), f"options come more than once: {codes}"


@judges("rfc2132/3.3/01")
@pytest.mark.parametrize("wanted", [b"", _WANTED, _ROUTER_FIRST], ids=["any", "in-order", "router-first"])
def test_the_mask_is_in_front_of_the_router(netemu_tester: Tester, wanted: bytes) -> None:
    options: dict[int, bytes] = {DhcpOption.PARAMETER_REQUEST_LIST: wanted} if wanted else {}
    codes = _option_codes(_offer(netemu_tester, options=options))
    assert codes.index(DhcpOption.SUBNET_MASK) < codes.index(DhcpOption.ROUTER), (
        f"the router option is in front of the mask: {codes}"
    )


@judges("rfc2132/3.5/01")
def test_the_router_is_the_gateway(netemu_tester: Tester) -> None:
    assert _offer(netemu_tester)[Dhcpv4].addresses(DhcpOption.ROUTER) == (netemu_tester.gateway,)


@judges("rfc2132/3.8/01")
def test_the_name_server_is_the_networks(netemu_tester: Tester) -> None:
    assert _offer(netemu_tester)[Dhcpv4].addresses(DhcpOption.DOMAIN_NAME_SERVER) == (netemu_tester.backend.dns,)


@judges("rfc2131/4.4.5/01")
def test_renewal_comes_before_rebinding_before_the_end(netemu_tester: Tester) -> None:
    """A server that sends no times leaves them to the client, whose defaults are in this order."""
    ack = netemu_tester.lease()
    lease = ack.lease_time
    assert lease is not None
    renewal = ack.u32(DhcpOption.RENEWAL_TIME_VALUE) or lease // 2
    rebinding = ack.u32(DhcpOption.REBINDING_TIME_VALUE) or lease * 7 // 8
    assert renewal < rebinding < lease


@judges("rfc2131/4.4.5/02")
def test_the_server_says_when_to_renew(netemu_tester: Tester) -> None:
    ack = netemu_tester.lease()
    assert ack.u32(DhcpOption.RENEWAL_TIME_VALUE), f"no renewal time (option 58) in {sorted(ack.options)}"
    assert ack.u32(DhcpOption.REBINDING_TIME_VALUE)


# Where answers go


@judges("rfc2131/4.1/03")
def test_the_broadcast_flag_is_honoured(netemu_tester: Tester) -> None:
    packet = _offer(netemu_tester, broadcast=True)
    assert packet[IPv4].destination == LIMITED_BROADCAST, f"the answer went to {packet[IPv4].destination}"
    assert packet[Ethernet].destination == BROADCAST_MAC, f"the answer is for all, and went to {packet[Ethernet].destination}"


@judges("rfc2131/4.1/04")
def test_without_the_flag_the_answer_is_for_the_client_alone(netemu_tester: Tester) -> None:
    packet = _offer(netemu_tester)
    assert packet[IPv4].destination == packet[Dhcpv4].yiaddr, (
        f"the answer went to {packet[IPv4].destination}, and {packet[Dhcpv4].yiaddr} was asked for"
    )
    assert packet[Ethernet].destination == netemu_tester.mac


# Who is who


@judges("rfc2131/4.2/01")
def test_clients_are_told_apart_by_their_hardware_address(netemu_tester: Tester) -> None:
    first, second = netemu_tester.lease(mac=_mac(1)), netemu_tester.lease(mac=_mac(2))
    assert first.yiaddr != second.yiaddr, f"two clients were leased {first.yiaddr}"
    assert netemu_tester.lease(mac=_mac(1)).yiaddr == first.yiaddr


@judges("rfc2131/4.2/02")
def test_a_client_identifier_counts_more(netemu_tester: Tester) -> None:
    """One machine with two identifiers is two clients, two cards with one are one."""
    one: dict[int, bytes] = {DhcpOption.CLIENT_IDENTIFIER: b"\0one"}
    two: dict[int, bytes] = {DhcpOption.CLIENT_IDENTIFIER: b"\0two"}
    first = netemu_tester.lease(options=one)
    assert netemu_tester.lease(options=two).yiaddr != first.yiaddr, f"two client identifiers were leased {first.yiaddr}"
    assert netemu_tester.lease(options=one, mac=_mac(3)).yiaddr == first.yiaddr


@judges("rfc2131/4.3.1/04")
def test_an_offer_is_not_made_twice(netemu_tester: Tester) -> None:
    offers = {_offer(netemu_tester, mac=_mac(number))[Dhcpv4].yiaddr for number in range(4)}
    assert len(offers) == 4, f"four clients were offered {sorted(map(str, offers))}"


# Granting and refusing


@judges("rfc2131/3.1/05")
def test_the_grant_is_what_was_offered(netemu_tester: Tester) -> None:
    offer = _offer(netemu_tester)[Dhcpv4]
    ack = netemu_tester.lease()
    assert ack.yiaddr == offer.yiaddr
    changed = {code for code, value in offer.options.items() if ack.options.get(code) != value}
    assert changed <= {DhcpOption.DHCP_MESSAGE_TYPE}


def _choose(tester: Tester, server: IPv4Address, address: IPv4Address) -> None:
    """A client in SELECTING takes that server's offer."""
    tester.send_dhcp(REQUEST, {DhcpOption.SERVER_IDENTIFIER: server.packed, DhcpOption.REQUESTED_IP_ADDRESS: address.packed})


@judges("rfc2131/3.1/04")
def test_a_choice_of_another_server_is_not_answered(netemu_tester: Tester) -> None:
    offer = _offer(netemu_tester)[Dhcpv4]
    _choose(netemu_tester, _ELSEWHERE, offer.yiaddr)
    _silence(netemu_tester)


@judges("rfc2131/4.3.2/04")
def test_only_the_offered_address_is_granted(netemu_tester: Tester) -> None:
    offer = _offer(netemu_tester)[Dhcpv4]
    server = offer.server_identifier
    assert server is not None
    _choose(netemu_tester, server, offer.yiaddr + 1)
    netemu_tester.silence(Dhcpv4, lambda message: message.message_type == ACK)


def _reboot(tester: Tester, address: IPv4Address, mac: MacAddress | None = None) -> None:
    """A client in INIT-REBOOT asks whether its address is still right."""
    tester.send_dhcp(REQUEST, {DhcpOption.REQUESTED_IP_ADDRESS: address.packed}, mac=mac)


@judges("rfc2131/4.3.2/01")
def test_an_address_of_another_network_is_refused(netemu_tester: Tester) -> None:
    _reboot(netemu_tester, _ELSEWHERE)
    netemu_tester.expect(Dhcpv4, lambda message: message.message_type == NAK)


@judges("rfc2131/4.3.2/02")
@pytest.mark.parametrize("case", ["other-network", "not-the-clients"])
def test_a_refusal_is_broadcast(netemu_tester: Tester, case: str) -> None:
    wrong = netemu_tester.lease().yiaddr + 1 if case == "not-the-clients" else _ELSEWHERE
    _reboot(netemu_tester, wrong)
    packet = netemu_tester.expect(Dhcpv4, lambda message: message.message_type == NAK)
    assert packet[IPv4].destination == LIMITED_BROADCAST
    assert packet[Ethernet].destination == BROADCAST_MAC
    assert packet[Dhcpv4].yiaddr == IPv4Address(0), f"the refusal has yiaddr {packet[Dhcpv4].yiaddr}"


@judges("rfc2131/4.3.2/03")
def test_an_unknown_client_gets_no_answer(netemu_tester: Tester) -> None:
    _reboot(netemu_tester, netemu_tester.backend.dhcpstart + 3, mac=_mac(9))
    _silence(netemu_tester)


@judges("rfc2131/4.3.2/05")
def test_an_address_of_somebody_else_is_not_extended(netemu_tester: Tester) -> None:
    address = netemu_tester.lease(mac=_mac(1)).yiaddr
    netemu_tester.lease(mac=_mac(2))
    netemu_tester.send_dhcp(REQUEST, ciaddr=address, mac=_mac(2), server=netemu_tester.gateway)
    netemu_tester.silence(Dhcpv4, lambda message: message.message_type == ACK)


@judges("rfc2131/4.3.2/06")
@pytest.mark.netemu_requires("virtual-clock")
def test_a_lease_may_be_extended(netemu_tester: Tester) -> None:
    tester = netemu_tester
    ack = tester.lease()
    lease = ack.lease_time
    assert lease is not None
    tester.run_for(lease // 2)
    sent = tester.send_dhcp(REQUEST, ciaddr=ack.yiaddr, xid=77, server=tester.gateway)
    renewed = tester.expect(Dhcpv4, lambda message: message.message_type == ACK, xid=sent.xid)
    assert renewed[Dhcpv4].yiaddr == ack.yiaddr
    assert renewed[Dhcpv4].lease_time == lease
    assert renewed[IPv4].destination == ack.yiaddr


@judges("rfc2131/2.2/01")
@pytest.mark.netemu_requires("virtual-clock")
def test_expired_addresses_are_used_again(netemu_tester: Tester) -> None:
    tester = netemu_tester
    first = [tester.lease(mac=_mac(number)) for number in range(_POOL)]
    taken = {ack.yiaddr for ack in first}
    tester.send_dhcp(DISCOVER, mac=_mac(_POOL))
    early = tester.wait(Dhcpv4, lambda message: message.message_type == OFFER, chaddr=_mac(_POOL))
    assert early is None or early[Dhcpv4].yiaddr not in taken
    lease = first[0].lease_time
    assert lease is not None
    tester.run_for(lease + 60)
    later = [tester.lease(mac=_mac(_POOL + number)).yiaddr for number in range(1, _POOL + 1)]
    assert len(set(later)) == _POOL


# Giving back


def _release(tester: Tester, lease: Dhcpv4, mac: MacAddress) -> None:
    server = {int(DhcpOption.SERVER_IDENTIFIER): lease.options[DhcpOption.SERVER_IDENTIFIER]}
    tester.send_dhcp(DhcpMessageType.RELEASE, server, ciaddr=lease.yiaddr, mac=mac, server=tester.gateway)
    tester.drain()


@judges("rfc2131/4.3.4/01")
def test_a_released_address_is_free(netemu_tester: Tester) -> None:
    """All addresses are taken, one is given back: a newcomer gets that one."""
    tester = netemu_tester
    leases = [tester.lease(mac=_mac(number)) for number in range(_POOL)]
    _release(tester, leases[5], _mac(5))
    assert tester.lease(mac=_mac(99)).yiaddr == leases[5].yiaddr


@judges("rfc2131/4.3.4/02")
def test_a_client_that_left_gets_its_address_back(netemu_tester: Tester) -> None:
    tester = netemu_tester
    tester.lease(mac=_mac(1))
    lease = tester.lease(mac=_mac(2))
    _release(tester, lease, _mac(2))
    assert tester.lease(mac=_mac(3)).yiaddr != lease.yiaddr, f"a newcomer got {lease.yiaddr} while others are free"
    assert tester.lease(mac=_mac(2)).yiaddr == lease.yiaddr


@judges("rfc2131/4.3.3/01")
def test_a_declined_address_is_not_given_away(netemu_tester: Tester) -> None:
    tester = netemu_tester
    ack = tester.lease(mac=_mac(1))
    tester.send_dhcp(
        DhcpMessageType.DECLINE,
        {
            DhcpOption.REQUESTED_IP_ADDRESS: ack.yiaddr.packed,
            DhcpOption.SERVER_IDENTIFIER: ack.options[DhcpOption.SERVER_IDENTIFIER],
        },
        mac=_mac(1),
    )
    tester.drain()
    given = {tester.lease(mac=_mac(number)).yiaddr for number in range(1, 8)}
    assert ack.yiaddr not in given, f"{ack.yiaddr} was declined, and leased again"


# Asking for parameters only


def _inform(tester: Tester) -> Packet:
    return tester.exchange_dhcp(DhcpMessageType.INFORM, ACK, ciaddr=tester.address)


@judges("rfc2131/4.3.5/01")
def test_an_answer_to_inform_leases_nothing(netemu_tester: Tester) -> None:
    ack = _inform(netemu_tester)[Dhcpv4]
    assert DhcpOption.IP_ADDRESS_LEASE_TIME not in ack.options, "the answer to INFORM has a lease time"
    assert ack.yiaddr == IPv4Address(0), f"the answer to INFORM has yiaddr {ack.yiaddr}"
    assert ack.addresses(DhcpOption.ROUTER) == (netemu_tester.gateway,)


@judges("rfc2131/3.4/01")
def test_an_answer_to_inform_goes_to_the_asker(netemu_tester: Tester) -> None:
    packet = _inform(netemu_tester)
    assert packet[IPv4].destination == netemu_tester.address
    assert packet[Ethernet].destination == netemu_tester.mac
