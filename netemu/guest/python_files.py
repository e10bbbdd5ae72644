"""A Python program as files for a guest that cannot see this machine's: the interpreter, its libraries, and what it imports.

Which modules a program imports is asked of the interpreter itself, in a process of its own. They go along as byte code, for a
guest that is emulated would take seconds to compile them. Standard modules keep their place, so that the interpreter finds them as
it does here; modules of this project lie in `HOME`.
"""

from __future__ import annotations

import functools
import importlib.util
import marshal
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import netemu
from netemu.errors import LocalError
from netemu.guest.cpio import Entry, file

__all__ = ["HOME", "interpreter", "program_files", "python_command"]

HOME: Final = "/netemu"  # of this project's modules, inside the guest
_SOURCES: Final = Path(netemu.__file__).resolve().parents[1]
_HEADER: Final = importlib.util.MAGIC_NUMBER + bytes(12)  # of byte code: no flags, no time and no size to check (PEP 552)
_MARSHAL: Final = 2  # the newest format whose octets do not depend on what else this process has loaded
_LIST: Final = """
import os, sys
sys.path[:0] = [sys.argv[1]]
exec(sys.argv[2])
for module in list(sys.modules.values()):
    path = getattr(module, "__file__", None)
    if path: print(os.path.abspath(path))
"""


def interpreter() -> str:
    """The Python that runs this, without the detour of a virtual environment."""
    return os.path.realpath(sys.executable)


def python_command(program: str, home: str) -> list[str]:
    """What runs `program` on nothing but the standard library and the modules in `home`."""
    return [interpreter(), "-I", "-S", "-B", "-c", f"import sys; sys.path[:0] = [{home!r}]; {program}"]


@functools.cache
def program_files(imports: str) -> tuple[Entry, ...]:
    """The files that a program needs which begins with the statement `imports`."""
    modules = _run([interpreter(), "-I", "-S", "-B", "-c", _LIST, str(_SOURCES), imports]).split()
    libraries = {
        library
        for binary in (interpreter(), *(path for path in modules if not path.endswith(".py")))
        for library in _run(["ldd", binary]).split()
        if library.startswith("/") and not library.endswith(":")
    }
    files = [file(path[1:], Path(path).read_bytes(), 0o755) for path in sorted({interpreter(), *libraries})]
    return *files, *_module_files(modules)


def _module_files(paths: list[str]) -> Iterator[Entry]:
    for path in map(Path, dict.fromkeys(paths)):
        place = Path(HOME) / path.relative_to(_SOURCES) if path.is_relative_to(_SOURCES / "netemu") else path
        name, octets = str(place)[1:], path.read_bytes()
        if path.suffix == ".py":
            code = compile(octets, str(place), "exec", dont_inherit=True)
            name, octets = name + "c", _HEADER + marshal.dumps(code, _MARSHAL)
        yield file(name, octets)


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LocalError(f"{command[0]} could not say what a guest needs of Python: {done.stderr.strip()[-300:]}")
    return done.stdout
