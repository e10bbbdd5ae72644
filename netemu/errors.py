"""The three kinds of error, told apart by whose fault it is.

`LocalError`: the caller misused the API; raised at once, one sentence: what was given, what is allowed, what to do.
`PeerError`: the other side of a wall sent something wrong; an engine counts and traces it and never lets it leave the loop.
`HostError`: the operating system refused; carries the errno and the operation.
"""

from __future__ import annotations

import errno as errno_names
import os

__all__ = ["HostError", "LocalError", "NetemuError", "NetemuTimeoutError", "PeerError"]


class NetemuError(Exception):
    """Every error netemu raises is one of these."""


class LocalError(NetemuError, ValueError):
    """The API was called wrongly."""


class PeerError(NetemuError):
    """The other side of the wall sent something wrong."""


class NetemuTimeoutError(NetemuError, TimeoutError):
    """A blocking helper's deadline passed (virtual or real, as the network's clock is) before its condition held."""


class HostError(NetemuError, OSError):
    """The operating system refused `operation`; `errno` says why (`errno.h` names)."""

    def __init__(self, errno: int, operation: str) -> None:
        name = errno_names.errorcode.get(errno, str(errno))
        super().__init__(errno, f"{operation}: {name} ({os.strerror(errno)})")
        self.operation = operation

    def __reduce__(self) -> tuple[type[HostError], tuple[int | None, str]]:
        return type(self), (self.errno, self.operation)

    def __str__(self) -> str:
        """The sentence alone: it has errno's name already."""
        return str(self.strerror)
