"""Where sockets are opened and programs started: here, or in a namespace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, Protocol, TypeVar

__all__ = ["HERE", "Place"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Place(Protocol):
    """What is asked of one. Functions are called with what can be pickled, and may give sockets."""

    def call(self, function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Run `function` there and give what it returns or raises."""
        ...

    def start(
        self,
        make: Callable[Concatenate[Sequence[str | Path], _P], _R],
        command: Sequence[str | Path],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _R:
        """What `make` makes of `command` and the rest, such as a `subprocess.Popen`: the program runs there."""
        ...


class _Here:
    def call(self, function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        return function(*args, **kwargs)

    def start(
        self,
        make: Callable[Concatenate[Sequence[str | Path], _P], _R],
        command: Sequence[str | Path],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _R:
        return make(command, *args, **kwargs)


HERE: Final[Place] = _Here()
"""Where this process is."""
