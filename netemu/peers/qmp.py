"""QMP, the protocol in which QEMU is told what to do: commands and answers, a JSON object a line.

Commands may be written before QEMU has started: it obeys them in order, and `settle` reads the answers when they matter. A guest is
restored that way, with nobody waiting. That is why qemu.qmp is not used: it talks only in turns, and its synchronous interface is
under another licence than this project.

Document: QEMU, docs/interop/qmp-spec.rst. Events are passed over.
"""

from __future__ import annotations

import errno
import json
import socket
import time
from typing import Final, TypeAlias

from netemu.errors import HostError, NetemuTimeoutError, PeerError

__all__ = ["Json", "Qmp"]

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

_READ: Final = 65_536
_LONGEST: Final = 1 << 20  # octets; a longer line is nonsense


class Qmp:
    """Speaks over `sock`, a connected stream socket (the caller's to close)."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._received = b""
        self._unanswered: list[str] = []
        self._result: dict[str, Json] = {}
        self.say("qmp_capabilities")

    def say(self, command: str, **arguments: Json) -> None:
        """Write a command, and do not wait for the answer. An underscore in an argument's name is a hyphen."""
        message = {"execute": command, "arguments": {name.replace("_", "-"): value for name, value in arguments.items()}}
        self._unanswered.append(command)
        try:
            self._sock.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise HostError(error.errno or errno.EPIPE, f"tell QEMU to {command}") from None

    def settle(self, timeout: float) -> None:
        """Read the answers to all that was said, within `timeout` seconds; a refusal is a `PeerError` with QEMU's words."""
        deadline = time.monotonic() + timeout
        while self._unanswered:
            answer = self._line(deadline, timeout)
            if "error" in answer:
                raise PeerError(f"QEMU refused {self._unanswered[0]}: {_description(answer['error'])}")
            if "return" in answer:
                del self._unanswered[0]
                result = answer["return"]
                self._result = result if isinstance(result, dict) else {}

    def command(self, command: str, timeout: float, **arguments: Json) -> dict[str, Json]:
        """Say `command` and wait for its result, which is empty if it is no object."""
        self.say(command, **arguments)
        self.settle(timeout)
        return self._result

    def _line(self, deadline: float, timeout: float) -> dict[str, Json]:
        """The next object."""
        while b"\n" not in self._received:
            if len(self._received) > _LONGEST:
                raise PeerError(f"QEMU wrote a line of more than {_LONGEST} octets")
            self._sock.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                octets = self._sock.recv(_READ)
            except TimeoutError:
                raise NetemuTimeoutError(f"QEMU did not answer {self._unanswered[0]} within {timeout:g} s") from None
            except OSError as error:
                raise HostError(error.errno or errno.EIO, f"hear QEMU about {self._unanswered[0]}") from None
            if not octets:
                raise HostError(errno.EHOSTDOWN, f"QEMU ended, asked to {self._unanswered[0]}")
            self._received += octets
        line, _, self._received = self._received.partition(b"\n")
        try:
            answer = json.loads(line)
        except ValueError:  # not JSON, or not UTF-8
            answer = None
        if not isinstance(answer, dict):
            raise PeerError(f"QEMU wrote {line[:80]!r}, which is no JSON object")
        return answer


def _description(error: Json) -> str:
    return str(error.get("desc", error) if isinstance(error, dict) else error)
