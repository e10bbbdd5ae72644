"""Hooks that netemu calls. Implement them in a plugin or in the conftest.py at the root of your tests; others load too late."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from netemu.platform import Finding
    from pytest_netemu.registry import BackendRegistry, GuestRegistry

__all__ = ["pytest_netemu_probe_platform", "pytest_netemu_register_backends", "pytest_netemu_register_guests"]


def pytest_netemu_register_guests(registry: GuestRegistry) -> None:
    """Register guests of your own: `registry.register(name, factory, capabilities=..., probe=...)`.

    Called once a process, while pytest is configured. `--netemu-guest` and the ini value `netemu_guests` then take the name.
    """


def pytest_netemu_register_backends(registry: BackendRegistry) -> None:
    """Register backends of your own, as for guests; `--netemu-backend` and `netemu_backends` then take the name."""


def pytest_netemu_probe_platform(config: pytest.Config) -> Mapping[str, Callable[[], Finding]]:  # type: ignore[empty-body]  # a specification
    """Probes of your own for `netemu_platform`, by name. Each runs at most once a session, when it is first asked for."""
