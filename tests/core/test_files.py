"""Files appear whole or not at all, readable by whom the user's mask lets read."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from vlm3r_core.files import whole_file, write_bytes, write_text


def test_written_and_replaced(tmp_path):
    path = tmp_path / "new" / "a.json"
    write_text(path, "ä")
    assert path.read_bytes() == "ä".encode()
    write_bytes(path, b"2")
    assert path.read_bytes() == b"2"
    assert os.listdir(path.parent) == ["a.json"]


def test_the_users_mask_decides_who_reads(tmp_path):
    before = os.umask(0o022)
    try:
        write_text(tmp_path / "a", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644


def write_half(path):
    with whole_file(path) as partial:
        partial.write_text("half")
        raise KeyError


def test_an_error_keeps_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(KeyError):
        write_half(path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_full_disk_says_what_to_do(tmp_path):
    path = tmp_path / "a.txt"
    with pytest.raises(OSError, match=r"the disk is full, .*a\.txt cannot be written; make room"), whole_file(path):
        raise OSError(errno.EFBIG, "File too large")
    with pytest.raises(PermissionError), whole_file(path):
        raise PermissionError
    assert os.listdir(tmp_path) == []
