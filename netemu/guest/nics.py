"""The NIC models of QEMU that a guest can have, and what its kernel needs for each.

Modules are named in the order in which they are loaded; what a kernel has built in is passed over. A model that the QEMU at hand
does not know is refused when the guest is made.

Left out: i82551 (its link does not come up), rocker and ne2k_isa (Debian's kernel has no driver).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from netemu.errors import LocalError
from netemu.peers.qmp import Json
from netemu.wire.address import MacAddress

__all__ = ["DEFAULT_NIC", "NETDEV", "NICS", "ROOT_PORT", "Nic", "find_nic"]

NETDEV: Final = "net"  # the id of the cable
ROOT_PORT: Final = "rootport"  # the id of the PCI Express root port it is plugged into
_USB_BUS: Final = "usb"


@dataclass(frozen=True, slots=True)
class Nic:
    """A model and the kernel's `modules` for it; one that is no PCI device hangs on `controller`.

    One that cannot be `copied` is plugged into each guest: QEMU cannot save it (USB), it hears only the address it was made with
    (NE2000), or takes seconds to hear another one (21143).
    """

    model: str
    modules: tuple[str, ...]
    controller: str | None = None
    copied: bool = True

    def devices(self, mac: MacAddress) -> tuple[dict[str, Json], ...]:
        """What is to be plugged in, as the arguments of QMP's device_add."""
        nic: dict[str, Json] = {"driver": self.model, "id": "nic", "netdev": NETDEV, "mac": str(mac)}
        if self.controller is None:
            return (nic | {"bus": ROOT_PORT, "romfile": ""},)  # a ROM would boot from the network
        return {"driver": self.controller, "id": _USB_BUS, "bus": ROOT_PORT}, nic | {"bus": f"{_USB_BUS}.0"}


_VIRTIO: Final = ("failover", "net_failover", "virtio_net")
_E100: Final = ("mii", "e100")
_USB: Final = ("usb-common", "usbcore", "xhci-hcd", "xhci-pci", "mii", "usbnet", "cdc_ether")

_ALL: Final = (
    *(Nic(f"virtio-net-pci{kind}", _VIRTIO) for kind in ("", "-transitional", "-non-transitional")),
    *(Nic(f"e1000{kind}", ("e1000",)) for kind in ("", "-82544gc", "-82545em")),
    Nic("e1000e", ("e1000e",)),
    Nic("igb", ("dca", "i2c-algo-bit", "igb")),
    Nic("rtl8139", ("mii", "8139cp")),
    Nic("ne2k_pci", ("8390", "ne2k-pci"), copied=False),
    Nic("pcnet", ("mii", "pcnet32")),
    Nic("tulip", ("tulip",), copied=False),
    *(Nic(f"i825{kind}", _E100) for kind in ("50", "57a", "57b", "57c", "58a", "58b", "59a", "59b", "59c", "59er", "62")),
    Nic("i82801", _E100),
    Nic("vmxnet3", ("vmxnet3",)),
    Nic("usb-net", _USB, controller="qemu-xhci", copied=False),
)
NICS: Final = {nic.model: nic for nic in _ALL}
DEFAULT_NIC: Final = "virtio-net-pci"


def find_nic(model: str) -> Nic:
    """What `model` needs; `LocalError` for one that is not there."""
    if model not in NICS:
        raise LocalError(f"nic={model!r}: QEMU guests have one of {', '.join(NICS)}")
    return NICS[model]
