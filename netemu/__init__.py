"""netemu: QEMU's network path in Python, either side of every wall.

The names below are the public face; each is loaded when first used, so that `import netemu` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netemu.errors import HostError, LocalError, NetemuError, NetemuTimeoutError, PeerError
    from netemu.network import Network

__all__ = [
    "HostError",
    "LocalError",
    "NetemuError",
    "NetemuTimeoutError",
    "Network",
    "PeerError",
    "__version__",
]

__version__ = "0.1.0"

_HOME = {
    "HostError": "netemu.errors",
    "LocalError": "netemu.errors",
    "NetemuError": "netemu.errors",
    "NetemuTimeoutError": "netemu.errors",
    "Network": "netemu.network",
    "PeerError": "netemu.errors",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562: a module attribute has any type
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'netemu' has no attribute {name!r}")
