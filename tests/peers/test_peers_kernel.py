"""Kernels out of bzImages, made here after boot.rst, and the modules beside them."""

import lzma
import shutil
import struct
import subprocess

import pytest

from netemu.errors import LocalError
from netemu.peers.kernel import Kernel, extract_image, find_kernel
from netemu.peers.root import locate

ELF = b"\x7fELF" + bytes(1000)


def bzimage(payload):
    """Two sectors of setup code, the payload 100 octets behind them, and its size at its end."""
    image = bytearray(2048 + 100)
    image[0x1F1] = 3
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", image, 0x248, 100, len(payload) + 4)
    return bytes(image) + payload + bytes(4) + b"more"


def test_an_image_is_unpacked():
    assert extract_image(bzimage(lzma.compress(ELF)), "vmlinuz") == ELF


def test_an_image_of_debian_13_is_unpacked(netemu_platform):
    netemu_platform.require_part("program", "zstd", lambda: None if shutil.which("zstd") else "zstd is not in PATH")
    packed = subprocess.run(["zstd", "-q"], input=ELF, capture_output=True, check=True).stdout
    assert extract_image(bzimage(packed), "vmlinuz") == ELF


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"", "is no bzImage"),
        (bytes(4096), "is no bzImage"),
        (bzimage(b"neither"), "holds no ELF image"),
        (bzimage(lzma.compress(b"no ELF")), "holds no ELF image"),
        (bzimage(lzma.compress(ELF)[:40]), "is damaged"),
        (bzimage(b"\x28\xb5\x2f\xfd" + bytes(40)), "is damaged|zstd is not in PATH"),
    ],
    ids=["nothing", "zeros", "raw", "text", "cut XZ", "broken Zstandard"],
)
def test_what_is_no_kernel_is_one_sentence(octets, why):
    with pytest.raises(LocalError, match=why):
        extract_image(octets, "vmlinuz")


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Where a kernel of Debian 13 would be unpacked; it has two files."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    root = locate("kernel@trixie").root
    modules = root / "usr/lib/modules/6.12.1+deb13-amd64/kernel/drivers"
    modules.mkdir(parents=True)
    (root / "boot").mkdir()
    (root / "boot/vmlinuz-6.12.1+deb13-amd64").write_bytes(bzimage(lzma.compress(ELF)))
    (modules.parents[1] / "modules.builtin").write_text("kernel/drivers/virtio/virtio_pci.ko\n")
    (modules / "ne2k-pci.ko.xz").write_bytes(lzma.compress(b"ne2k"))
    (modules / "i2c-algo-bit.ko").write_bytes(b"bit")
    (modules / "xmii.ko").write_bytes(b"another")
    return root


def test_a_kernel_is_found_with_its_modules(root):
    kernel = find_kernel("kernel@trixie")
    assert (kernel.release, kernel.image.read_bytes()) == ("6.12.1+deb13-amd64", ELF)
    assert kernel.module("virtio-pci") is None
    assert (kernel.module("ne2k_pci"), kernel.module("i2c-algo-bit")) == (b"ne2k", b"bit")
    with pytest.raises(LocalError, match=r"Linux 6\.12\.1\+deb13-amd64 has no module mii: take another kernel"):
        kernel.module("mii")


def test_an_image_is_extracted_once(root):
    first = find_kernel("kernel@trixie").image
    first.write_bytes(b"kept")
    assert find_kernel("kernel@trixie") == Kernel("6.12.1+deb13-amd64", first, root / "usr/lib/modules/6.12.1+deb13-amd64")
    assert first.read_bytes() == b"kept"
    assert list(first.parent.iterdir()) == [first]


def test_a_root_without_a_kernel_is_one_sentence(root):
    (root / "boot/vmlinuz-6.12.1+deb13-amd64").unlink()
    with pytest.raises(LocalError, match="has no kernel in boot: remove that directory, then netemu peers install kernel@trixie"):
        find_kernel("kernel@trixie")


@pytest.mark.parametrize(("name", "why"), [("passt", "'passt' is no kernel"), ("kernel@sid", "kernel@sid is not installed")])
def test_another_name_is_refused(root, name, why):
    with pytest.raises(LocalError, match=why):
        find_kernel(name)
