"""The shipped conformance suites, a package a wall; tests only, no hooks.

Their bodies use the plugin's fixtures and ask for capabilities, never for an implementation, so one body judges every
backend and guest of the matrix: `pytest --pyargs pytest_netemu.suites.user_network --netemu-backend mine`, or
`netemu conformance`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pytest

from pytest_netemu.requirements import catalogue

__all__ = ["SUITE_VERSION", "WALLS", "Wall", "judges"]

SUITE_VERSION: Final = "0.1"


@dataclass(frozen=True, slots=True)
class Wall:
    """A wall of QEMU's network path: what meets there, and the package of its checks (None: not written yet)."""

    meets: str
    package: str | None = None


WALLS: Final = {
    "user-network": Wall("a guest meets a user-mode network", "pytest_netemu.suites.user_network"),
    "wire": Wall("a guest's stack meets the wire"),
    "nic": Wall("a driver meets a NIC's registers"),
    "vhost-user": Wall("a virtio front-end meets a vhost-user back-end"),
    "link": Wall("a netdev meets another process"),
    "migration": Wall("a source meets its destination"),
}


def judges(name: str) -> pytest.MarkDecorator:
    """The mark of a check that judges the catalogue's requirement `name`: `netemu_clause` with its document, section and level."""
    requirement = catalogue()[name]
    return pytest.mark.netemu_clause(requirement.document.id, requirement.section, level=requirement.level, id=name)
