"""netascii, TFTP's mode for text: lines end in CR LF, a CR by itself is CR NUL (RFC 1350 1, RFC 764 "The NVT printer").

Here, as on every Unix, a line ends in LF. Both directions work on pieces, for a block may end between the two octets.
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["NetasciiReader", "NetasciiWriter"]

_CHUNK = 4096  # octets read at a time


class _Source(Protocol):
    def read(self, count: int) -> bytes: ...


class _Sink(Protocol):
    def write(self, data: bytes) -> None: ...


class NetasciiReader:
    """Gives the text of `source` as netascii."""

    def __init__(self, source: _Source) -> None:
        self._source = source
        self._ready = bytearray()

    def read(self, count: int) -> bytes:
        """The next `count` octets, fewer at the end only."""
        while len(self._ready) < count and (piece := self._source.read(_CHUNK)):
            self._ready += piece.replace(b"\r", b"\r\0").replace(b"\n", b"\r\n")
        found = bytes(self._ready[:count])
        del self._ready[:count]
        return found


class NetasciiWriter:
    """Writes netascii to `sink` as text. A CR that neither LF nor NUL follows stays as it is."""

    def __init__(self, sink: _Sink) -> None:
        self._sink = sink
        self._held = b""

    def write(self, data: bytes) -> None:
        text = self._held + data
        self._held = b"\r" if text.endswith(b"\r") else b""
        text = text[: len(text) - len(self._held)]
        self._sink.write(text.replace(b"\r\n", b"\n").replace(b"\r\0", b"\r"))

    def flush(self) -> None:
        """The text is over."""
        self._sink.write(self._held)
        self._held = b""
