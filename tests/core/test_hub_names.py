"""Model specs with repositories on a hub in place of paths: the same model, and what is said when it cannot be had."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hub_server import Hub
from published_golden import SETS, spec_of

import vlm3r_core

SPEC = "base=lab/base,adapter=lab/adapter@v1,cut3r=lab/cut3r/weights.pth,sizes=lab/cut3r/sizes.json"


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def hub(golden_dir):
    folder = golden_dir / SETS[0]
    cut3r = {
        "weights.pth": (folder / "cut3r.pth").read_bytes(),
        "sizes.json": (folder / "tower_config.json").read_bytes(),
    }
    repositories = {"base": files_of(folder / "base"), "adapter": files_of(folder / "adapter"), "cut3r": cut3r}
    with Hub({f"lab/{name}": files for name, files in repositories.items()}) as server:
        yield server


def check(spec: str, folder: Path, url: str, **environment: str) -> subprocess.CompletedProcess:
    """The command as a person runs it, with a hub and a cache of its own."""
    environment = {"HF_ENDPOINT": url, "HF_HUB_CACHE": str(folder / "hub")} | environment
    command = [sys.executable, "-m", "vlm3r_core.weights", "check", spec]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=300, cwd=folder
    )


# runs in a process of its own: the hub client reads its address when it is imported
SAVE_WEIGHTS = """
import sys, torch, vlm3r_core
torch.save(vlm3r_core.load(sys.argv[1], device="cpu").state_dict(), sys.argv[2])
"""


def test_repositories_stand_for_folders(hub, golden_dir, tmp_path):
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "hub")}
    target = tmp_path / "weights.pt"
    done = subprocess.run([sys.executable, "-c", SAVE_WEIGHTS, SPEC, str(target)], env=environment, timeout=300)
    assert done.returncode == 0
    expected = vlm3r_core.load(spec_of(golden_dir / SETS[0]), device="cpu").state_dict()
    loaded = torch.load(target, weights_only=True)
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], value) for name, value in expected.items())


def test_what_was_downloaded_serves_without_the_hub(hub, tmp_path):
    first = check(SPEC, tmp_path, hub.url)
    assert first.returncode == 0, first.stderr
    asked = len(hub.asked)
    again = check(SPEC, tmp_path, hub.url, HF_HUB_OFFLINE="1")
    assert again.returncode == 0, again.stderr
    assert again.stdout == first.stdout
    assert len(hub.asked) == asked


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("lab/base", "lab/bse"), "lab/bse is no path here, and the hub does not give it"),
        (("weights.pth", "wights.pth"), "lab/cut3r/wights.pth is no path here, and the hub does not give it"),
        (("lab/base", "./lab/base"), "not found: base=lab/base"),
    ],
)
def test_what_the_hub_lacks_is_named(hub, tmp_path, change, expected):
    done = check(SPEC.replace(*change), tmp_path, hub.url)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_offline_says_so(hub, tmp_path):
    done = check(SPEC, tmp_path, hub.url, HF_HUB_OFFLINE="1")
    assert done.returncode == 2
    assert "lab/base is no path here" in done.stderr
    assert "HF_HUB_OFFLINE" in done.stderr
