"""netemu as pytest fixtures, assertion helpers and conformance suites.

The names below are types to annotate fixtures with; each is loaded when first used. The plugin itself is `pytest_netemu.plugin`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from netemu.guest.protocol import Guest, Lease, PingResult
    from netemu.net.capture import FrameLog
    from netemu.net.faults import Fault
    from netemu.net.hub import Hub
    from netemu.net.link import FrameRecord, Link
    from netemu.netdev.protocol import Backend, UserBackend
    from netemu.network import Network
    from pytest_netemu.asserts.ping import PingGroupRange
    from pytest_netemu.factories import BackendFactory, GuestFactory, HubFactory, NetworkFactory
    from pytest_netemu.platform import Platform
    from pytest_netemu.registry import Registry

__all__ = [
    "Backend",
    "BackendFactory",
    "Fault",
    "FrameLog",
    "FrameRecord",
    "Guest",
    "GuestFactory",
    "Hub",
    "HubFactory",
    "Lease",
    "Link",
    "Network",
    "NetworkFactory",
    "PingGroupRange",
    "PingResult",
    "Platform",
    "Registry",
    "UserBackend",
]

_HOME = {
    "Backend": "netemu.netdev.protocol",
    "BackendFactory": "pytest_netemu.factories",
    "Fault": "netemu.net.faults",
    "FrameLog": "netemu.net.capture",
    "FrameRecord": "netemu.net.link",
    "Guest": "netemu.guest.protocol",
    "GuestFactory": "pytest_netemu.factories",
    "Hub": "netemu.net.hub",
    "HubFactory": "pytest_netemu.factories",
    "Lease": "netemu.guest.protocol",
    "Link": "netemu.net.link",
    "Network": "netemu.network",
    "NetworkFactory": "pytest_netemu.factories",
    "PingGroupRange": "pytest_netemu.asserts.ping",
    "PingResult": "netemu.guest.protocol",
    "Platform": "pytest_netemu.platform",
    "Registry": "pytest_netemu.registry",
    "UserBackend": "netemu.netdev.protocol",
}

# Before anything imports them: what they assert shall be explained in users' tests too.
pytest.register_assert_rewrite("pytest_netemu.asserts", "pytest_netemu.suites")


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562: a module attribute has any type
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'pytest_netemu' has no attribute {name!r}")
