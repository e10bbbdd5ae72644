"""The shipped conformance suites, a package a wall; tests only, no hooks.

Their bodies use the plugin's fixtures and ask for capabilities, never for an implementation, so one body judges every
backend and guest of the matrix: `pytest --pyargs pytest_netemu.suites.user_network --netemu-backend mine`, or
`netemu conformance`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pytest

from pytest_netemu.requirements import Requirement, catalogue

__all__ = ["SUITE_VERSION", "WALLS", "Wall", "judges", "side_of"]

SUITE_VERSION: Final = "0.1"


@dataclass(frozen=True, slots=True)
class Wall:
    """A wall of QEMU's network path: what meets there, the package of its checks (None: not written yet), and whom they judge.

    `judges` is the axis of the matrix that a requirement binds which binds either side.
    """

    meets: str
    package: str | None = None
    judges: str = "backend"


WALLS: Final = {
    "user-network": Wall("a guest meets a user-mode network", "pytest_netemu.suites.user_network"),
    "wire": Wall("a guest's stack meets the wire", "pytest_netemu.suites.wire", "guest"),
    "nic": Wall("a driver meets a NIC's registers"),
    "vhost-user": Wall("a virtio front-end meets a vhost-user back-end"),
    "link": Wall("a netdev meets another process"),
    "migration": Wall("a source meets its destination"),
}


def side_of(requirement: Requirement, module: str | None) -> str:
    """Whom a check in `module` of `requirement` judges: `backend` or `guest`."""
    wall = next((wall for wall in WALLS.values() if wall.package and module and module.startswith(f"{wall.package}.")), None)
    return requirement.side or (wall.judges if wall else "backend")


def judges(name: str) -> pytest.MarkDecorator:
    """The mark of a check that judges the catalogue's requirement `name`: `netemu_clause` with its document, section and level."""
    requirement = catalogue()[name]
    return pytest.mark.netemu_clause(requirement.document.id, requirement.section, level=requirement.level, id=name)
