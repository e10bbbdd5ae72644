"""The command that starts a program of the user's, with places in it that are filled in when it starts.

    [SETTING=VALUE...] PROGRAM ARGUMENTS...

Settings come first, as assignments do in a shell; quote what has spaces. `wait` is everybody's (`netemu.peers.readiness`).
One place says how its frames come and go (`WIRES`); others say what it is to be, such as `{mac}` or `{net.prefixlen}`.
"""

from __future__ import annotations

import re
import shlex
import shutil
import string
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from netemu.errors import LocalError

__all__ = ["WIRES", "Command", "fill"]

WIRES: Final = ("fd", "dgram", "socket", "seqpacket", "listen", "tap")
"""The places that say how frames pass (`netemu.peers.wires`)."""

_SETTING: Final = re.compile(r"([a-z]+)=(.*)", re.DOTALL)
_PLACE: Final = re.compile(r"[^.\[]*")  # of {net.prefixlen}, what stands before the dot


@dataclass(frozen=True, slots=True)
class Command:
    """`words` with places in braces, the one `wire` among them, and the `settings` that stood before. See `parse`."""

    words: tuple[str, ...]
    wire: str
    settings: Mapping[str, str]

    @classmethod
    def parse(cls, command: str | Sequence[str], settings: Collection[str]) -> Command:
        """Take it apart as a shell would; a list is taken as it is. `LocalError` unless there is a program with one wire, and
        no settings but `settings`.
        """
        try:
            words = shlex.split(command) if isinstance(command, str) else [*command]
        except ValueError as error:
            raise LocalError(f"command {command}: {error}; quote it as for a shell") from None
        found: dict[str, str] = {}
        while words and (setting := _SETTING.fullmatch(words[0])):
            if setting[1] not in settings:
                raise LocalError(f"{words[0]}: no such setting stands before a program here; there are {', '.join(settings)}")
            found[setting[1]] = setting[2]
            del words[0]
        if not words:
            raise LocalError(f"command {command!r}: there is no program in it")
        wires = sorted(_places(words) & {*WIRES})
        if len(wires) != 1:
            has = " and ".join(f"{{{wire}}}" for wire in wires) or "no wire"
            raise LocalError(f"command {shlex.join(words)}: it has {has}; give one of {_list(WIRES)}, where its frames pass")
        return cls(tuple(words), wires[0], found)

    def __str__(self) -> str:
        return shlex.join(self.words)

    @property
    def places(self) -> frozenset[str]:
        """The names of the places in it."""
        return _places(self.words)

    def fill(self, values: Mapping[str, object]) -> list[str]:
        """The words with their places filled in. A place that has no value, and a program that is not there, is a `LocalError`."""
        filled = [fill(word, values) for word in self.words]
        if shutil.which(filled[0]) is None:
            raise LocalError(f"command {self}: there is no program {filled[0]}; build it, or give its path")
        return filled


def fill(text: str, values: Mapping[str, object]) -> str:
    """`text` with its places filled in; one that has no value is a `LocalError`."""
    try:
        return text.format_map(values)
    except (LookupError, AttributeError, ValueError) as error:
        raise LocalError(f"{text!r}: {error} is no place here; there are {_list(values)}") from None


def _places(words: Sequence[str]) -> frozenset[str]:
    try:
        fields = [field for word in words for _, field, _, _ in string.Formatter().parse(word) if field is not None]
    except ValueError as error:
        raise LocalError(f"command {shlex.join(words)}: {error}; write a brace that is no place twice") from None
    return frozenset(match[0] for field in fields if (match := _PLACE.match(field)))


def _list(names: Sequence[str] | Mapping[str, object]) -> str:
    return ", ".join(f"{{{name}}}" for name in names)
