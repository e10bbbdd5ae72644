"""The lease table by itself (RFC 2131 4.3.1)."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from netemu.user.leases import Lease, LeaseState, LeaseTable
from netemu.wire.address import MacAddress

POOL = tuple(IPv4Address(f"10.0.2.{last}") for last in range(15, 18))
MAC = MacAddress("52:54:00:12:34:56")


def lease(address: int, client: bytes, state: LeaseState = "bound", expires: int = 100) -> Lease:
    return Lease(POOL[address], client, MAC, state, expires)


def test_own_then_requested_then_new_then_longest_idle() -> None:
    table = LeaseTable(POOL)
    assert table.choose(b"a", MAC, None) == POOL[0]
    assert table.choose(b"a", MAC, POOL[2]) == POOL[2]
    assert table.choose(b"a", MAC, IPv4Address("10.0.2.99")) == POOL[0]
    table.put(lease(1, b"a"))
    assert table.choose(b"a", MAC, POOL[2]) == POOL[1]
    table.put(lease(0, b"b", "released", 7))
    table.put(lease(2, b"c", "expired", 5))
    assert table.choose(b"d", MAC, None) == POOL[2]
    assert table.choose(b"d", MAC, POOL[0]) == POOL[0]
    assert table.choose(b"d", MAC, POOL[1]) == POOL[2]
    table.put(lease(2, b"d"))
    assert table.choose(b"e", MAC, None) == POOL[0]
    table.put(lease(0, b"e"))
    assert table.choose(b"f", MAC, None) is None


def test_a_client_has_one_record() -> None:
    table = LeaseTable(POOL)
    table.put(lease(0, b"a"))
    table.put(lease(1, b"a"))
    assert [each.address for each in table] == [POOL[1]]


def test_a_declined_address_is_not_its_clients() -> None:
    table = LeaseTable(POOL)
    table.put(lease(0, b"a", "declined"))
    assert table.of_client(b"a") is None
    assert not table.available_to(b"a", MAC, POOL[0])
    table.put(lease(1, b"a"))
    assert len(list(table)) == 2


def test_only_an_offer_is_withdrawn() -> None:
    table = LeaseTable(POOL)
    table.put(lease(0, b"a"))
    table.withdraw(b"a")
    table.withdraw(b"b")
    assert len(list(table)) == 1
    table.put(lease(0, b"a", "offered"))
    table.withdraw(b"a")
    assert list(table) == []


@pytest.mark.parametrize(("state", "left"), [("bound", ["expired"]), ("offered", []), ("declined", [])])
def test_what_time_does(state: LeaseState, left: list[str]) -> None:
    table = LeaseTable(POOL)
    table.put(lease(0, b"a", state, 100))
    table.put(lease(1, b"b", "bound", 200))
    assert table.deadline() == 100
    table.expire(99)
    assert table.of_client(b"b") == lease(1, b"b", "bound", 200)
    assert [each.state for each in table] == [state, "bound"]
    table.expire(100)
    assert [each.state for each in table] == [*left, "bound"]
    assert table.deadline() == 200
    table.expire(200)
    assert table.deadline() is None


def test_available() -> None:
    table = LeaseTable(POOL)
    assert not table.available_to(b"a", MAC, IPv4Address("10.0.2.14"))
    assert table.available_to(b"a", MAC, POOL[0])
    table.put(lease(0, b"a"))
    assert table.available_to(b"a", MAC, POOL[0])
    assert not table.available_to(b"b", MAC, POOL[0])
    table.release(replace(lease(0, b"a")), 50)
    assert table.available_to(b"b", MAC, POOL[0])
    assert list(table) == [lease(0, b"a", "released", 50)]
