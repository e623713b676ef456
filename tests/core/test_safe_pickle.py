"""Files of torch.save: tensors and settings are read, whatever could run code is refused unread."""

from __future__ import annotations

import argparse
import builtins
import os
import pickle
import sys
from collections import OrderedDict, defaultdict
from contextlib import suppress
from pathlib import PurePosixPath
from types import ModuleType

import numpy as np
import pytest
import torch

from vlm3r_core.checkpoint.safe_pickle import Inert, read_torch_file


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def saved(path, content, **how):
    torch.save(content, path, **how)
    return path


def test_tensors_and_plain_containers(tmp_path):
    content = {
        "model": OrderedDict(a=torch.arange(6).reshape(2, 3)),
        "epoch": 10,
        "best": float("inf"),
        "b": [(1, "x")],
    }
    read = read_torch_file(saved(tmp_path / "a.pth", content))
    assert torch.equal(read["model"]["a"], content["model"]["a"])
    assert (read["epoch"], read["best"], read["b"]) == (10, float("inf"), [(1, "x")])


def test_settings_become_inert(tmp_path):
    args = argparse.Namespace(model="Net(depth=2)", folder=PurePosixPath("a/b"), best=np.float64(0.5))
    args.more = defaultdict(dict, {"x": 1})
    read = read_torch_file(saved(tmp_path / "a.pth", {"args": args}))
    assert type(read["args"]) is Inert
    assert read["args"].state["model"] == "Net(depth=2)"
    assert type(read["args"].state["folder"]) is Inert
    assert type(read["args"].state["best"]) is Inert
    assert read["args"].state["more"] == {"x": 1}


def test_settings_of_a_package_that_is_not_installed(tmp_path, monkeypatch):
    package = ModuleType("omegaconf")
    package.DictConfig = type("DictConfig", (), {"__module__": "omegaconf"})
    monkeypatch.setitem(sys.modules, "omegaconf", package)
    config = package.DictConfig()
    config.name = "cut3r"
    path = saved(tmp_path / "a.pth", {"args": config})
    monkeypatch.delitem(sys.modules, "omegaconf")
    assert read_torch_file(path)["args"].state == {"name": "cut3r"}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    "function", [os.system, builtins.eval, builtins.exec, builtins.getattr, torch.load, pickle.loads]
)
def test_calls_are_refused_and_not_run(tmp_path, function, protocol):
    marker = tmp_path / "marker"
    code = f"touch {marker}" if function is os.system else f"open({str(marker)!r}, 'w').close()"
    content = {"model": {"a": torch.zeros(2)}, "args": Calls(function, code)}
    with pytest.raises(ValueError, match=r"refused|cannot be read") as error:
        read_torch_file(saved(tmp_path / "a.pth", content, pickle_protocol=protocol))
    assert not marker.exists()
    if protocol == 2:
        assert f".{function.__name__}, which could run code" in str(error.value)
        assert "nothing of it was run" in str(error.value)


def test_a_stand_in_does_nothing_when_called(tmp_path):
    marker = tmp_path / "marker"
    hidden = Calls(PurePosixPath, Calls(os.system, f"touch {marker}"))
    with pytest.raises(ValueError, match=r"asks for \w+\.system"):
        read_torch_file(saved(tmp_path / "a.pth", {"args": hidden}))
    assert not marker.exists()


def test_reading_leaves_torch_as_it_was(tmp_path):
    before = set(torch.serialization.get_safe_globals())
    read_torch_file(saved(tmp_path / "a.pth", {"args": argparse.Namespace(a=1)}))
    assert set(torch.serialization.get_safe_globals()) == before


def test_a_bare_pickle_is_no_file_of_tensors(tmp_path):
    (tmp_path / "a.pth").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match="cannot be read as a file of tensors"):
        read_torch_file(tmp_path / "a.pth")


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, -1])
def test_cut_off(tmp_path, kept):
    whole = saved(tmp_path / "a.pth", {"a": torch.zeros(1000)}).read_bytes()
    (tmp_path / "a.pth").write_bytes(whole[: int(len(whole) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(ValueError, match="damaged, cut off"):
        read_torch_file(tmp_path / "a.pth")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damaged_anywhere_raises_nothing_else(tmp_path):
    path = saved(tmp_path / "a.pth", {"args": argparse.Namespace(a=1), "model": {"a": torch.zeros(3)}})
    whole = path.read_bytes()
    start = whole.index(b"argparse")
    for place in range(start - 30, start + 150):
        for value in (0, 0x2E, 0x52, 0x80, 0xFF):
            path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
            with suppress(ValueError):
                read_torch_file(path)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected one written by torch\.save"):
        read_torch_file(tmp_path / "a.pth")
