from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.stack.deadlines import Deadlines
from netemu.stack.routes import PATH_MTU_LIFETIME, PathMtus, Route, RouteTable

OURS = IPv4Interface("10.0.2.15/24")
ROUTER = IPv4Address("10.0.2.2")
EVERYWHERE = IPv4Network("0.0.0.0/0")


def table() -> RouteTable:
    routes = RouteTable()
    routes.add_route(Route(EVERYWHERE, OURS.ip, ROUTER))
    routes.add_address(OURS)
    routes.add_route(Route(IPv4Network("192.168.0.0/16"), OURS.ip, IPv4Address("10.0.2.3")))
    return routes


def next_hop(routes: RouteTable, destination: str) -> str | None:
    route = routes.lookup(IPv4Address(destination))
    return None if route is None else str(route.router or destination)


def test_the_longest_prefix_wins():
    routes = table()
    assert next_hop(routes, "10.0.2.7") == "10.0.2.7"
    assert next_hop(routes, "192.168.3.4") == "10.0.2.3"
    assert next_hop(routes, "8.8.8.8") == "10.0.2.2"
    assert routes.lookup(IPv4Address("8.8.8.8")).source == OURS.ip


def test_a_longer_prefix_of_the_same_network_wins_whenever_it_was_added():
    routes = table()
    routes.add_route(Route(IPv4Network("192.168.0.0/24"), OURS.ip, IPv4Address("10.0.2.4")))
    assert next_hop(routes, "192.168.0.1") == "10.0.2.4"
    assert next_hop(routes, "192.168.1.1") == "10.0.2.3"


def test_broadcasts_and_multicasts_do_not_go_to_the_router():
    routes = table()
    for destination in ("255.255.255.255", "10.0.2.255", "10.0.2.0", "224.0.0.1"):
        assert next_hop(routes, destination) == destination
    assert routes.is_broadcast(int(IPv4Address("10.0.2.255")))
    assert not routes.is_broadcast(int(IPv4Address("10.0.2.15")))


def test_a_network_of_two_has_no_broadcast():
    routes = RouteTable()
    routes.add_address(IPv4Interface("10.0.0.0/31"))
    assert not routes.is_broadcast(int(IPv4Address("10.0.0.1")))


def test_our_own_addresses_are_their_own_source():
    routes = table()
    for own in ("10.0.2.15", "127.0.0.1"):
        assert routes.lookup(IPv4Address(own)).source == IPv4Address(own)
        assert routes.is_local(int(IPv4Address(own)))


def test_clear_loses_everything_but_loopback():
    routes = table()
    routes.clear()
    assert routes.address is None
    assert routes.lookup(IPv4Address("8.8.8.8")) is None
    assert routes.lookup(OURS.ip) is None
    assert not routes.is_broadcast(int(IPv4Address("10.0.2.255")))
    assert routes.is_broadcast(0xFFFFFFFF)
    assert routes.is_local(int(IPv4Address("127.0.0.1")))


def test_path_mtus_only_go_down_and_are_forgotten():
    paths = PathMtus()
    assert paths.get(ROUTER, 1500, 0) == 1500
    paths.lower(ROUTER, 1000, 0)
    paths.lower(ROUTER, 1200, 0)
    assert paths.get(ROUTER, 1500, PATH_MTU_LIFETIME) == 1000
    assert paths.get(ROUTER, 800, 0) == 800
    assert paths.get(OURS.ip, 1500, 0) == 1500
    assert paths.get(ROUTER, 1500, PATH_MTU_LIFETIME + 1) == 1500
    paths.lower(ROUTER, 1, 0)
    assert paths.get(ROUTER, 1500, 0) == 68


def test_path_mtus_are_bounded():
    paths = PathMtus()
    for number in range(2000):
        paths.lower(IPv4Address(number), 600, 0)
    assert sum(paths.get(IPv4Address(number), 1500, 0) == 600 for number in range(2000)) == 1024


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(0, 20))), st.integers(0, 20))
def test_deadlines_agree_with_a_dictionary(steps, now):
    deadlines: Deadlines[int] = Deadlines()
    expected: dict[int, int] = {}
    for key, when in steps:
        deadlines.set(key, when)
        if when is None:
            expected.pop(key, None)
        else:
            expected[key] = when
        assert deadlines.first() == min(expected.values(), default=None)
    due = deadlines.due(now)
    assert sorted(due) == sorted(key for key, when in expected.items() if when <= now)
    assert [expected[key] for key in due] == sorted(expected[key] for key in due)
    assert deadlines.first() == min((when for when in expected.values() if when > now), default=None)


def test_deadlines_of_what_is_gone_are_cleared_away():
    deadlines: Deadlines[int] = Deadlines()
    deadlines.set(-1, 5)
    for key in range(10_000):
        deadlines.set(key, 7_200 + key)
        deadlines.set(key, None)
    assert len(deadlines._heap) < 100
    assert deadlines.next_look() == deadlines.first() == 5
    deadlines.set(-1, 9)
    assert deadlines.next_look() == 5
    assert deadlines.first() == 9


def test_moving_a_deadline_later_does_not_grow_the_heap():
    deadlines: Deadlines[str] = Deadlines()
    for when in range(10_000):
        deadlines.set("connection", when)
    assert len(deadlines._heap) == 1
    assert deadlines.first() == 9_999
    deadlines.clear()
    assert deadlines.first() is None
