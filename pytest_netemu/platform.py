"""What this machine was probed to do, and the one place that decides what a missing part means for a test.

A test that needs something that is not here is skipped with the probe's words. With `CI=true` in the environment it fails instead:
a CI that promises a peer and silently tests nothing would be worse than a red one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Final, NoReturn

import pytest

from netemu.errors import LocalError

if TYPE_CHECKING:
    from netemu.platform import Finding

__all__ = ["PLATFORM", "Platform"]


class Platform(Mapping[str, "Finding"]):
    """Findings by the probe's name. A probe runs when it is first asked for, once a session."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._findings: dict[str, Finding] = {}
        self._reasons: dict[tuple[str, str], str | None] = {}

    @cached_property
    def _probes(self) -> dict[str, Callable[[], Finding]]:
        """What netemu probes, and what other plugins add."""
        from netemu.platform import PROBES

        probes = dict(PROBES)
        for more in self._config.hook.pytest_netemu_probe_platform(config=self._config):
            probes.update(more)
        return probes

    def __getitem__(self, name: str) -> Finding:
        if name not in self._probes:
            raise LocalError(f"{name!r} is not probed; probed: {', '.join(sorted(self._probes))}")
        if name not in self._findings:
            self._findings[name] = self._probes[name]()
        return self._findings[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._probes))

    def __len__(self) -> int:
        return len(self._probes)

    def require(self, *names: str) -> None:
        """Go on only if all of these work here."""
        __tracebackhide__ = True
        for name in names:
            finding = self[name]
            if not finding.works:
                mend = f"; mend it with: {finding.mend}" if finding.mend else ""
                self.refuse(f"{name}: {finding.words}{mend}")

    def require_part(self, kind: str, name: str, probe: Callable[[], str | None]) -> None:
        """Go on only if the guest or backend called `name` can run here; its probe is asked once a session."""
        __tracebackhide__ = True
        key = (kind, name)
        if key not in self._reasons:
            self._reasons[key] = probe()
        reason = self._reasons[key]
        if reason is not None:
            self.refuse(f"{kind} {name}: {reason}")

    def refuse(self, reason: str) -> NoReturn:
        """End the test: something it needs is not here."""
        __tracebackhide__ = True
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI=true promises this: {reason}", pytrace=False)
        pytest.skip(f"platform: {reason}")


PLATFORM: Final = pytest.StashKey[Platform]()
