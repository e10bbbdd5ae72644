"""Assertions for networks: each failure says in its own text what was expected, what was seen, and how to see it again."""

from __future__ import annotations

from pytest_netemu.asserts.forward import assert_hostfwd
from pytest_netemu.asserts.frames import Expectation, Match, expect
from pytest_netemu.asserts.lease import assert_dhcp_lease
from pytest_netemu.asserts.ping import PingGroupRange, PingVerdict, assert_ping

__all__ = [
    "Expectation",
    "Match",
    "PingGroupRange",
    "PingVerdict",
    "assert_dhcp_lease",
    "assert_hostfwd",
    "assert_ping",
    "expect",
]
