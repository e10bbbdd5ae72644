"""What the DHCP server has beyond libslirp's: rapid commit, settled addresses, booting, time servers, routes, pool sizes."""

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from user_driver import GATEWAY, GUEST, GUEST_MAC, Lab, selecting

from netemu.user.options import UserOptions
from netemu.wire.address import MacAddress
from netemu.wire.dhcpv4 import DhcpMessageType, DhcpOption, Dhcpv4, parse_classless_routes
from netemu.wire.fields import ANY_IPV4

OTHER_MAC = MacAddress("52:54:00:12:34:57")
SETTLED = IPv4Address("10.0.2.50")
TIME_SERVER = IPv4Address("192.0.2.123")
ROUTE = (IPv4Network("198.51.100.0/24"), IPv4Address("10.0.2.9"))


def reply(lab: Lab) -> Dhcpv4:
    message = lab.one().dhcp
    assert message is not None
    return message


def offer(options: UserOptions, wanted: bytes = b"") -> Dhcpv4:
    lab = Lab(options)
    lab.dhcp(DhcpMessageType.DISCOVER, {DhcpOption.PARAMETER_REQUEST_LIST: wanted} if wanted else {})
    return reply(lab)


def test_rapid_commit_takes_two_messages() -> None:
    lab = Lab()
    lab.dhcp(DhcpMessageType.DISCOVER, {DhcpOption.RAPID_COMMIT: b""})
    ack = reply(lab)
    assert (ack.message_type, ack.yiaddr, ack.options[DhcpOption.RAPID_COMMIT]) == (DhcpMessageType.ACK, GUEST, b"")
    (lease,) = lab.user.leases
    assert (lease.state, lease.expires) == ("bound", lab.loop.now() + 86_400 * 10**9)
    lab.dhcp(DhcpMessageType.REQUEST, ciaddr=GUEST)
    assert DhcpOption.RAPID_COMMIT not in reply(lab).options


def test_a_settled_address_is_its_owners_whatever_it_calls_itself() -> None:
    lab = Lab(UserOptions(static_lease=((GUEST_MAC, SETTLED),)))
    for identifier in (b"\0one", b"\0two"):
        lab.dhcp(DhcpMessageType.DISCOVER, {DhcpOption.CLIENT_IDENTIFIER: identifier})
        assert reply(lab).yiaddr == SETTLED
    lab.dhcp(DhcpMessageType.REQUEST, ciaddr=GUEST)
    assert reply(lab).message_type == DhcpMessageType.NAK
    lab.dhcp(DhcpMessageType.REQUEST, selecting(SETTLED), chaddr=OTHER_MAC)
    assert reply(lab).message_type == DhcpMessageType.NAK
    lab.dhcp(DhcpMessageType.DISCOVER, {DhcpOption.REQUESTED_IP_ADDRESS: SETTLED.packed}, chaddr=OTHER_MAC)
    assert reply(lab).yiaddr == GUEST


def test_a_settled_address_in_the_pool_is_nobody_elses() -> None:
    lab = Lab(UserOptions(static_lease=((OTHER_MAC, GUEST),), pool_size=2))
    lab.dhcp(DhcpMessageType.DISCOVER, {DhcpOption.REQUESTED_IP_ADDRESS: GUEST.packed})
    assert reply(lab).yiaddr == GUEST + 1
    lab.dhcp(DhcpMessageType.DISCOVER, chaddr=MacAddress("52:54:00:12:34:58"))
    assert lab.take() == []
    assert lab.counters["dhcp-pool-exhausted"] == 1


@pytest.mark.parametrize("size", [1, 3, 40])
def test_the_pool_has_the_size_it_is_given(size: int) -> None:
    assert len(UserOptions(pool_size=size).pool) == size


def test_no_boot_server_is_named_where_nothing_boots() -> None:
    message = offer(UserOptions())
    assert (message.siaddr, message.file) == (ANY_IPV4, b"")
    assert not {DhcpOption.TFTP_SERVER_NAME, DhcpOption.BOOTFILE_NAME, DhcpOption.VENDOR_CLASS_IDENTIFIER} & message.options.keys()


def test_a_host_that_boots_learns_file_and_server(tmp_path: Path) -> None:
    message = offer(UserOptions(bootfile="pxe.0"))
    assert (message.siaddr, message.file, message.options[DhcpOption.BOOTFILE_NAME]) == (GATEWAY, b"pxe.0", b"pxe.0")
    assert offer(UserOptions(tftp=str(tmp_path))).siaddr == GATEWAY


@pytest.mark.parametrize(("name", "server"), [("192.0.2.69", IPv4Address("192.0.2.69")), ("boot.example.org", GATEWAY)])
def test_another_boot_server(name: str, server: IPv4Address) -> None:
    message = offer(UserOptions(bootfile="pxe.0", tftp_server_name=name))
    assert (message.siaddr, message.options[DhcpOption.TFTP_SERVER_NAME]) == (server, name.encode())


@pytest.mark.parametrize(
    ("bootfile", "vendor"), [("http://10.0.2.2/a.efi", b"HTTPClient"), ("https://x/", b"HTTPClient"), ("a", None)]
)
def test_a_boot_file_of_http_names_its_class(bootfile: str, vendor: bytes | None) -> None:
    assert offer(UserOptions(bootfile=bootfile)).options.get(DhcpOption.VENDOR_CLASS_IDENTIFIER) == vendor


def test_time_servers() -> None:
    message = offer(UserOptions(ntp=(TIME_SERVER, GATEWAY)))
    assert message.addresses(DhcpOption.NETWORK_TIME_PROTOCOL_SERVERS) == (TIME_SERVER, GATEWAY)


def test_routes_include_the_way_out_for_who_asks_for_them_ignores_the_router() -> None:
    options = UserOptions(route=(ROUTE,))
    message = offer(options, bytes((1, 3, 121)))
    everywhere = (IPv4Network("0.0.0.0/0"), GATEWAY)
    assert parse_classless_routes(message.options[DhcpOption.CLASSLESS_STATIC_ROUTE]) == (ROUTE, everywhere)
    assert DhcpOption.ROUTER not in message.options
    assert offer(options, bytes((1, 3))).addresses(DhcpOption.ROUTER) == (GATEWAY,)
    restricted = offer(UserOptions(route=(ROUTE,), restrict=True), bytes((121,)))
    assert parse_classless_routes(restricted.options[DhcpOption.CLASSLESS_STATIC_ROUTE]) == (ROUTE,)


def test_a_server_that_is_switched_off_is_silent() -> None:
    lab = Lab(UserOptions(disable_dhcp=True))
    lab.dhcp(DhcpMessageType.DISCOVER)
    assert lab.take() == []
    assert lab.counters["dhcp-disabled"] == 1
