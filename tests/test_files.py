"""Files that are whole or not there, with the modes that ais_bench accepts."""
from __future__ import annotations

import gzip
import os
import stat

import pytest

from contract.errors import UserError
from contract.files import make_folder, read_json, write_file, write_json


def test_modes_are_those_that_ais_bench_accepts(tmp_path):
    folder = make_folder(tmp_path / "a" / "b")
    write_file(folder / "file.bin", b"1")
    write_json(folder / "file.json", {})
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, folder.parent, *folder.iterdir())}
    assert modes == {"a": 0o750, "b": 0o750, "file.bin": 0o640, "file.json": 0o640}


def test_a_file_keeps_its_mode_when_it_replaces_another(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    path.chmod(0o666)
    write_file(path, b"new")
    assert path.read_bytes() == b"new" and stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "file.bin"
    write_file(path, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError) as caught:
        write_file(path, b"new")
    assert caught.value.filename == str(path) and path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_replaced_not_followed(tmp_path):
    """Newer ais_bench releases refuse links."""
    target, path = tmp_path / "target", tmp_path / "file.bin"
    target.write_bytes(b"theirs")
    path.symlink_to(target)
    write_file(path, b"ours")
    assert target.read_bytes() == b"theirs" and not path.is_symlink()


def test_temporary_names_are_unique_and_a_planted_link_is_not_followed(tmp_path, monkeypatch):
    names = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda source, target: (names.append(source), replace(source, target)))
    for _ in range(3):
        write_file(tmp_path / "file.bin", b"ours")
    assert len(set(names)) == 3 and all(name.startswith(str(tmp_path / "file.bin.")) for name in names)
    (tmp_path / "mine").write_bytes(b"kept")
    (tmp_path / "file.bin.00000000.tmp").symlink_to(tmp_path / "mine")
    monkeypatch.setattr(os, "urandom", bytes)
    with pytest.raises(FileExistsError):
        write_file(tmp_path / "file.bin", b"ours")
    assert (tmp_path / "mine").read_bytes() == b"kept"


def test_compressed_json_is_named(tmp_path):
    (tmp_path / "a.json").write_bytes(gzip.compress(b"[]"))
    with pytest.raises(UserError, match="compressed by gzip. Run gunzip"):
        read_json(tmp_path / "a.json", "detections")
