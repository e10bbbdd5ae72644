"""The cells of a run as data: what `netemu matrix` prints, and what CI divides among its machines.

pytest reads the options, ini values and registrations of the directory it is asked in, as a run there would, and collects nothing.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from itertools import product
from typing import NamedTuple

import pytest

from netemu.errors import LocalError
from pytest_netemu.conformance import usage_error
from pytest_netemu.matrix import BACKENDS, GUESTS
from pytest_netemu.options import SETTINGS

__all__ = ["CellNames", "cells", "github"]


class CellNames(NamedTuple):
    """One cell by the names of its parts, and why it cannot run here (None if it can)."""

    guest: str
    nic: str
    backend: str
    reason: str | None


class _Configuration:
    """A pytest plugin that keeps the configuration and has nothing collected."""

    config: pytest.Config | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> bool:
        self.config = session.config
        return True


def cells(guests: Sequence[str] = (), nics: Sequence[str] = (), backends: Sequence[str] = ()) -> list[CellNames]:
    """The cells of a run with these options in the current directory; what was asked for wrongly is a `LocalError`."""
    # This process is netemu's already: that its modules cannot be rewritten matters to nobody where nothing is collected.
    arguments = ["-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    if find_spec("xdist") is not None:
        arguments += ["-n", "0"]
    for flag, values in (("guest", guests), ("nic", nics), ("backend", backends)):
        arguments += [part for value in values for part in (f"--netemu-{flag}", value)]
    asked, said = _Configuration(), io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        pytest.main(arguments, plugins=[asked])
    if asked.config is None:
        raise LocalError(usage_error(said.getvalue()))
    return list(_cells(asked.config))


def _cells(config: pytest.Config) -> Iterator[CellNames]:
    settings = config.stash[SETTINGS]
    backends = {name: config.stash[BACKENDS][name].probe() for name in settings.backends}
    guests = {name: config.stash[GUESTS][name].probe() for name in settings.guests}
    for guest, nic, backend in product(guests, settings.nics, backends):
        yield CellNames(guest, nic, backend, guests[guest] or backends[backend])


def github(found: Sequence[CellNames]) -> str:
    """The value of `strategy.matrix` of a GitHub Actions job, on one line: every cell, for a job installs what its own needs."""
    return json.dumps({"include": [{"guest": cell.guest, "nic": cell.nic, "backend": cell.backend} for cell in found]})
