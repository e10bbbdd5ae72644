"""The archive a real guest boots from: the format against an independent reader, the contents, and its determinism."""

import os
import subprocess
from pathlib import Path

import pytest

from netemu.errors import LocalError
from netemu.guest import busybox
from netemu.guest.cpio import Entry, archive, character_device, directory, file, symlink
from netemu.guest.initramfs import READY, UDHCPC_SCRIPT, build, open_initramfs

FIELDS = ("ino", "mode", "uid", "gid", "nlink", "mtime", "filesize", "maj", "min", "rmaj", "rmin", "namesize", "chksum")


@pytest.fixture(scope="module")
def program(netemu_platform):
    netemu_platform.require_part("program", "busybox", lambda: busybox.probe(static=True))
    return busybox.find_busybox()


def read_newc(octets):
    """A reader after buffer-format.rst: [(fields, name, data)], the trailer included."""
    entries, at = [], 0
    while at < len(octets):
        assert octets[at : at + 6] == b"070701"
        values = [int(octets[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        fields = dict(zip(FIELDS, values, strict=True))
        name_end = at + 110 + fields["namesize"]
        assert octets[name_end - 1] == 0
        name = octets[at + 110 : name_end - 1].decode()
        data_at = name_end + -name_end % 4
        data_end = data_at + fields["filesize"]
        entries.append((fields, name, octets[data_at:data_end]))
        at = data_end + -data_end % 4
    assert at == len(octets)
    return entries


def test_entries_come_back_as_they_were_given():
    entries = read_newc(
        archive([file("etc/hi", b"12345", 0o640), symlink("bin/sh", "/bin/busybox"), character_device("dev/null", 1, 3, 0o666)])
    )
    by_name = {name: (fields, data) for fields, name, data in entries}
    assert [name for _, name, _ in entries] == ["bin", "bin/sh", "dev", "dev/null", "etc", "etc/hi", "TRAILER!!!"]
    assert (by_name["etc/hi"][0]["mode"], by_name["etc/hi"][1]) == (0o100640, b"12345")
    assert (by_name["bin/sh"][0]["mode"], by_name["bin/sh"][1]) == (0o120777, b"/bin/busybox")
    null = by_name["dev/null"][0]
    assert (null["mode"], null["rmaj"], null["rmin"]) == (0o020666, 1, 3)
    assert (by_name["etc"][0]["mode"], by_name["etc"][0]["nlink"]) == (0o040755, 2)


def test_every_inode_is_its_own_and_nothing_is_of_this_machine():
    entries = read_newc(archive([file("a", b""), file("b/c", b"x"), directory("b")]))[:-1]
    assert len({fields["ino"] for fields, _, _ in entries}) == len(entries) == 3
    for fields, _, _ in entries:
        assert [fields[name] for name in ("uid", "gid", "mtime", "maj", "min", "chksum")] == [0] * 6


def test_the_order_of_the_entries_does_not_matter():
    entries = [file("z", b"1"), file("a/b/c", b"2"), directory("a"), symlink("a/l", "z")]
    assert archive(entries) == archive(reversed(entries))


@pytest.mark.parametrize("name", ["", "/etc/passwd", "a\0b"])
def test_an_impossible_name_is_refused(name):
    with pytest.raises(LocalError, match="a relative name is needed"):
        Entry(name, 0o100644)


def test_a_name_given_twice_is_refused():
    with pytest.raises(LocalError, match="'a' was given twice"):
        archive([file("a", b"1"), file("a", b"2")])


def test_busybox_reads_the_initramfs(program):
    listed = subprocess.run([program, "cpio", "-t"], input=build(program), capture_output=True, check=True)
    names = listed.stdout.decode().split()
    assert {"init", "bin/busybox", "bin/sh", "sbin/udhcpc", UDHCPC_SCRIPT[1:], "dev/console", "host"} <= set(names)
    assert "sbin/modprobe" not in names  # it would make the boot slow
    assert len(names) == len(set(names))


def test_init_is_a_script_that_this_shell_understands(program):
    init = next(data for _, name, data in read_newc(build(program)) if name == "init")
    assert subprocess.run([program, "sh", "-n"], input=init, capture_output=True, check=False).returncode == 0
    assert READY.encode() in init


def test_the_same_busybox_gives_the_same_octets(program):
    assert build.__wrapped__(program) == build.__wrapped__(program)


def test_the_initramfs_is_a_file_in_memory_that_others_can_open(program):
    with open_initramfs(program) as memory:
        with open(f"/dev/fd/{memory.fileno()}", "rb") as again:
            assert again.read() == build(program)
        assert not os.get_inheritable(memory.fileno())


def test_static_and_dynamic_programs_are_told_apart(program, tmp_path):
    assert busybox.is_static(program)
    assert not busybox.is_static(Path("/bin/sh").resolve())
    text = tmp_path / "text"
    text.write_bytes(b"#!" + bytes(100))
    assert not busybox.is_static(text)


def test_a_missing_busybox_names_the_package(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(LocalError, match="install the Debian package busybox-static"):
        busybox.find_busybox()
    assert "busybox-static" in busybox.probe()
