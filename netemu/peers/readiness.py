"""When a program that was started is ready: a condition said as text, asked again and again.

| text | holds once |
|---|---|
| `line:REGEX` | a line that the program wrote matches somewhere |
| `path:PATH` | the path is there |
| `tcp:ADDRESS:PORT` | a connection to it is accepted, in the program's namespace; `[::1]` for IPv6 |
| `unix:PATH` | a connection to it is accepted |
| `frame` | it has sent a frame |

A connection is made and closed again to ask, so a program that serves one client only wants another condition.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from netemu.errors import LocalError
from netemu.io.place import Place

__all__ = ["FIRST_FRAME", "condition"]

FIRST_FRAME: Final = "frame"

_PATIENCE: Final = 0.2  # seconds for one connection: it is to this machine
_GRAMMAR: Final = "line:REGEX, path:PATH, tcp:ADDRESS:PORT, unix:PATH or frame"


def condition(text: str, read_output: Callable[[], str], place: Place) -> Callable[[], bool]:
    """The function that says whether `text` holds; `frame` is not for it. `place` is where the program runs."""
    kind, _, rest = text.partition(":")
    address, _, port = rest.rpartition(":")
    match kind:
        case "line" if rest:
            try:
                pattern = re.compile(rest, re.MULTILINE)
            except re.error as error:
                raise LocalError(f"wait={text}: {error} in the regular expression") from None
            return lambda: pattern.search(read_output()) is not None
        case "path" if rest:
            return Path(rest).exists
        case "unix" if rest:
            return lambda: _accepts(socket.AF_UNIX, rest)
        case "tcp" if address and port.isdecimal():
            family = socket.AF_INET6 if address.startswith("[") else socket.AF_INET
            where = (address.strip("[]"), int(port))
            return lambda: place.call(_accepts, family, where)
        case _:
            raise LocalError(f"wait={text}: give {_GRAMMAR}")


def _accepts(family: int, place: str | tuple[str, int]) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as sock, suppress(OSError):
        sock.settimeout(_PATIENCE)
        sock.connect(place)
        return True
    return False
