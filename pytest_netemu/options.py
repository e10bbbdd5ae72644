"""Options and ini values: one table, read and checked once.

A policy is an ini value, and an option of the same meaning overrides it for one run. Values are plain strings, so that
xdist can hand them to its workers.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final, Literal, NamedTuple, cast

import pytest

__all__ = ["NO_NIC", "SETTINGS", "CaptureMode", "ClockKind", "Settings", "add_options", "nics", "read_settings"]

ClockKind = Literal["virtual", "real"]
CaptureMode = Literal["always", "on-fail", "never"]

_PROGRAM: Final = "=exec:"

CLOCKS: Final = ("virtual", "real")
CAPTURE_MODES: Final = ("always", "on-fail", "never")
NO_NIC: Final = "direct"  # joins the guest's stack to the netdev without a NIC, or through the one that the guest has by itself


class _Option(NamedTuple):
    """`flag` is None where only the ini value is there; the ini value's name is `netemu_` and the key in `_OPTIONS`."""

    flag: str | None
    metavar: str
    default: str
    many: bool
    help: str


_OPTIONS: Final = {
    "guests": _Option(
        "--netemu-guest",
        "NAME",
        "inproc",
        True,
        "Guests that tests using netemu_guest run on; repeat it, or separate names by commas; NAME=exec:COMMAND is a program "
        "(docs/guests.md).",
    ),
    "backends": _Option(
        "--netemu-backend",
        "NAME",
        "netemu",
        True,
        "User-mode networks that tests using netemu_backend run on; repeat it, or separate names by commas; NAME=exec:COMMAND is "
        "a program (docs/backends.md).",
    ),
    "nics": _Option(
        "--netemu-nic",
        "NAME",
        "direct",
        True,
        "NIC models, for guests that have the one asked for (qemu); repeat it, or separate names by commas. 'direct' is none.",
    ),
    "capture": _Option(
        "--netemu-capture",
        "WHEN",
        "on-fail",
        False,
        "When the frames of a test are written as pcapng: always, on-fail or never.",
    ),
    "out": _Option(
        "--netemu-out",
        "DIR",
        "netemu-report",
        False,
        "Write the conformance report and captures here. The ini value, relative to the root directory, is for captures alone.",
    ),
    "seed": _Option("--netemu-seed", "NUMBER", "0", False, "Seed of every random number drawn inside a network."),
    "clauses": _Option(
        "--netemu-clause",
        "ID",
        "",
        True,
        "Run only the tests of this clause: a document (rfc2131), a section with all below it (rfc2131/4.3) or a requirement's id.",
    ),
    "clock": _Option(None, "KIND", "virtual", False, "Clock of a test without the netemu_clock mark: virtual or real."),
}


class Settings(NamedTuple):
    """What this run was asked for, checked. `out` is an absolute path, `narrowed` the axes that the command line named."""

    guests: tuple[str, ...]
    backends: tuple[str, ...]
    nics: tuple[str, ...]
    capture: CaptureMode
    out: Path
    seed: int
    clauses: tuple[str, ...]
    clock: ClockKind
    narrowed: frozenset[str]


SETTINGS: Final = pytest.StashKey[Settings]()


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("netemu", "netemu: guests, backends and evidence")
    for name, option in _OPTIONS.items():
        if option.flag is not None:
            group.addoption(
                option.flag,
                dest=f"netemu_{name}",
                action="append" if option.many else "store",
                metavar=option.metavar,
                help=option.help,
            )
        ini = f"netemu_{name}"
        if option.many:
            parser.addini(ini, option.help, type="args", default=option.default.split())
        else:
            parser.addini(ini, option.help, type="string", default=option.default)


def programs(config: pytest.Config, axis: Literal["guests", "backends"]) -> dict[str, str]:
    """The guests or backends that are programs, by name: the command of each `NAME=exec:COMMAND`."""
    given = (text.partition(_PROGRAM) for text in _given(config, axis))
    return {name.strip(): command for name, program, command in given if program}


def read_settings(config: pytest.Config, guests: Collection[str], backends: Collection[str]) -> Settings:
    """The settings of this run; what is not allowed is a `pytest.UsageError` that names it and the alternatives."""
    seed = _one(config, "seed")
    if not seed.isdecimal():
        raise _usage_error("seed", seed, "a number, zero or more")
    base = config.rootpath if config.getoption("netemu_out") is None else config.invocation_params.dir
    return Settings(
        guests=_names(config, "guests", guests),
        backends=_names(config, "backends", backends),
        nics=_names(config, "nics", (NO_NIC,) if _many(config, "nics") == (NO_NIC,) else nics()),
        capture=cast("CaptureMode", _choice(config, "capture", CAPTURE_MODES)),
        out=base / _one(config, "out"),
        seed=int(seed),
        clauses=_many(config, "clauses"),
        clock=cast("ClockKind", _choice(config, "clock", CLOCKS)),
        narrowed=frozenset(axis for axis in ("guests", "backends", "nics") if config.getoption(f"netemu_{axis}")),
    )


def nics() -> tuple[str, ...]:
    """What may be between a guest and its netdev: nothing, or one of QEMU's models."""
    from netemu.guest.nics import NICS

    return NO_NIC, *NICS


def _one(config: pytest.Config, name: str) -> str:
    given = config.getoption(f"netemu_{name}", None)
    return str(config.getini(f"netemu_{name}") if given is None else given)


def _given(config: pytest.Config, name: str) -> list[str]:
    return cast("list[str]", config.getoption(f"netemu_{name}") or config.getini(f"netemu_{name}"))


def _many(config: pytest.Config, name: str) -> tuple[str, ...]:
    names = (part.strip() for text in _given(config, name) for part in text.partition(_PROGRAM)[0].split(","))
    return tuple(sorted({name for name in names if name}))


def _choice(config: pytest.Config, name: str, allowed: Collection[str]) -> str:
    value = _one(config, name)
    if value not in allowed:
        raise _usage_error(name, value, f"one of {', '.join(allowed)}")
    return value


def _names(config: pytest.Config, name: str, registered: Collection[str]) -> tuple[str, ...]:
    names = _many(config, name)
    for each in names or ("",):
        if each not in registered:
            raise _usage_error(name, each, f"one or more of those registered: {', '.join(sorted(registered))}")
    return names


def _usage_error(name: str, value: str, allowed: str) -> pytest.UsageError:
    flag = _OPTIONS[name].flag
    where = f"{flag} (or ini netemu_{name})" if flag else f"ini netemu_{name}"
    return pytest.UsageError(f"{where}: {value!r} was given; give {allowed}")
