"""Options of `-netdev user` that somebody else's network has nothing for."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from netemu.errors import LocalError
from netemu.user.options import UserOptions

__all__ = ["UnsupportedOptionError", "refuse_options"]

_DEFAULTS: Final = UserOptions()


class UnsupportedOptionError(LocalError):
    """An option of `-netdev user` that this network has nothing for."""


def refuse_options(names: Collection[str], options: UserOptions, what: str) -> None:
    """`UnsupportedOptionError` if one of the options that UserOptions calls `names` is not at its default."""
    defaults = UserOptions(
        net=_DEFAULTS.net if "net" in names else options.net,
        ipv6_net=_DEFAULTS.ipv6_net if "ipv6_net" in names else options.ipv6_net,
    )  # addresses lie in them
    foreign = [name for name in names if getattr(options, name) != getattr(defaults, name)]
    if foreign:
        raise UnsupportedOptionError(f"{what} has nothing for {', '.join(foreign).replace('_', '-')}: leave that out")
