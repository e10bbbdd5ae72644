"""The guests and backends that a run can choose from: what they are called, what they can do, and whether they can run here.

Registering costs nothing: a factory is called, and a probe asked, only for a test that needs them. Capabilities are keys of
`netemu.guest.protocol.CAPABILITIES` and `netemu.netdev.protocol.BACKEND_CAPABILITIES`; the suites ask for those, never for names.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final, Generic, Literal, NamedTuple, TypeAlias, TypeVar, get_args

from netemu.errors import LocalError

if TYPE_CHECKING:
    from netemu.guest.protocol import Guest
    from netemu.netdev.protocol import UserBackend

__all__ = ["ARMS", "Arm", "BackendRegistry", "GuestRegistry", "Registration", "Registry", "Version"]

T = TypeVar("T")
Arm = Literal["in-process", "kernel", "oracle", "replay"]
ARMS: Final[tuple[Arm, ...]] = get_args(Arm)
"""What a part is, and so what a result rests on: an engine in this process, a real kernel, somebody else's peer, a recording."""


class Version(NamedTuple):
    """Which one it was: the version as its makers count, and the commit it was built from where that is known."""

    version: str
    commit: str | None = None


def _runs_anywhere() -> str | None:
    return None


def _nobody_knows() -> Version | None:
    return None


class Registration(NamedTuple, Generic[T]):
    """One guest or backend. `factory(network, **options)` makes it; `probe()` is None or the reason why it cannot run here.

    `declared` are its capabilities, or a function that gives them, for a part that is not loaded before it is asked for.
    `version()` is asked only for a part that was judged; None means that nobody knows.
    """

    name: str
    factory: Callable[..., T]
    declared: Collection[str] | Callable[[], Collection[str]]
    probe: Callable[[], str | None]
    version: Callable[[], Version | None]
    arm: Arm

    @property
    def capabilities(self) -> frozenset[str]:
        return frozenset(self.declared() if callable(self.declared) else self.declared)


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
        capabilities: Collection[str] | Callable[[], Collection[str]],
        probe: Callable[[], str | None] = _runs_anywhere,
        version: Callable[[], Version | None] = _nobody_knows,
        arm: Arm = "in-process",
    ) -> None:
        """Add one; a name that is taken, and an `arm` that is not one of `ARMS`, is a `LocalError`.

        `factory` is called with the network and, by keyword, with what the test asks for: a guest gets `netdev`, `nic`, `mac` and
        `name`, a backend gets options of QEMU's `-netdev user` by their names (`restrict="on"`). The network closes what it makes.
        """
        if name in self._known:
            raise LocalError(f"{self.kind} {name!r} is registered already; choose another name")
        if arm not in ARMS:
            raise LocalError(f"{self.kind} {name!r} has arm {arm!r}; give one of {', '.join(ARMS)}")
        self._known[name] = Registration(name, factory, capabilities, probe, version, arm)

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
