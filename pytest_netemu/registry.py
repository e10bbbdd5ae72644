"""The guests and backends that a run can choose from: what they are called, what they can do, and whether they can run here.

Registering costs nothing: a factory is called, and a probe asked, only for a test that needs them. Capabilities are keys of
`netemu.guest.protocol.CAPABILITIES` and `netemu.netdev.protocol.BACKEND_CAPABILITIES`; the suites ask for those, never for names.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeAlias, TypeVar

from netemu.errors import LocalError

if TYPE_CHECKING:
    from netemu.guest.protocol import Guest
    from netemu.netdev.protocol import UserBackend

__all__ = ["BackendRegistry", "GuestRegistry", "Registration", "Registry"]

T = TypeVar("T")


def _runs_anywhere() -> str | None:
    return None


class Registration(NamedTuple, Generic[T]):
    """One guest or backend. `factory(network, **options)` makes it; `probe()` is None or the reason why it cannot run here."""

    name: str
    factory: Callable[..., T]
    capabilities: frozenset[str]
    probe: Callable[[], str | None]


class Registry(Generic[T]):
    """Registrations by name. `kind` is what they are called in messages: `guest` or `backend`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._known: dict[str, Registration[T]] = {}

    def register(
        self,
        name: str,
        factory: Callable[..., T],
        *,
        capabilities: Collection[str],
        probe: Callable[[], str | None] = _runs_anywhere,
    ) -> None:
        """Add one; a name that is taken is a `LocalError`.

        `factory` is called with the network and, by keyword, with what the test asks for: a guest gets `netdev`, `nic`, `mac` and
        `name`, a backend gets options of QEMU's `-netdev user` by their names (`restrict="on"`). The network closes what it makes.
        """
        if name in self._known:
            raise LocalError(f"{self.kind} {name!r} is registered already; choose another name")
        self._known[name] = Registration(name, factory, frozenset(capabilities), probe)

    def __getitem__(self, name: str) -> Registration[T]:
        try:
            return self._known[name]
        except KeyError:
            raise LocalError(f"{name!r} is not a registered {self.kind}; registered: {', '.join(self.names)}") from None

    @property
    def names(self) -> list[str]:
        return sorted(self._known)


GuestRegistry: TypeAlias = "Registry[Guest]"
BackendRegistry: TypeAlias = "Registry[UserBackend]"
