"""The NIC models of QEMU that a guest can have, and what its kernel needs for each.

Modules are named in the order in which they are loaded; what a kernel has built in is passed over. A model that the QEMU at hand
does not know is refused when the guest is made.

Left out: i82551 (its link does not come up), usb-net (QEMU cannot save it), rocker and ne2k_isa (Debian's kernel has no driver).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from netemu.errors import LocalError

__all__ = ["DEFAULT_NIC", "NICS", "Nic", "find_nic"]


@dataclass(frozen=True, slots=True)
class Nic:
    """A model: `modules` of the kernel."""

    modules: tuple[str, ...]


_VIRTIO: Final = Nic(("failover", "net_failover", "virtio_net"))
_E1000: Final = Nic(("e1000",))
_E100: Final = Nic(("mii", "e100"))

NICS: Final = {
    "virtio-net-pci": _VIRTIO,
    "virtio-net-pci-transitional": _VIRTIO,
    "virtio-net-pci-non-transitional": _VIRTIO,
    "e1000": _E1000,
    "e1000-82544gc": _E1000,
    "e1000-82545em": _E1000,
    "e1000e": Nic(("e1000e",)),
    "igb": Nic(("dca", "i2c-algo-bit", "igb")),
    "rtl8139": Nic(("mii", "8139cp")),
    "ne2k_pci": Nic(("8390", "ne2k-pci")),
    "pcnet": Nic(("mii", "pcnet32")),
    "tulip": Nic(("tulip",)),
    "i82550": _E100,
    "i82557a": _E100,
    "i82557b": _E100,
    "i82557c": _E100,
    "i82558a": _E100,
    "i82558b": _E100,
    "i82559a": _E100,
    "i82559b": _E100,
    "i82559c": _E100,
    "i82559er": _E100,
    "i82562": _E100,
    "i82801": _E100,
    "vmxnet3": Nic(("vmxnet3",)),
}
DEFAULT_NIC: Final = "virtio-net-pci"


def find_nic(model: str) -> Nic:
    """What `model` needs; `LocalError` for one that is not there."""
    if model not in NICS:
        raise LocalError(f"nic={model!r}: QEMU guests have one of {', '.join(NICS)}")
    return NICS[model]
