"""Fetching from a hub on this machine: all at once, again, after a cut connection, and with everything that fails."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
from hub_server import REVISION, Hub
from huggingface_hub import constants

from vlm3r_core.weights.cli import main
from vlm3r_core.weights.fetch import KNOWN

BASE, ADAPTER, VSTI = KNOWN["vlm3r-7b"].repositories.values()
CUT3R = KNOWN["vlm3r-7b"].cut3r
SHARD = bytes(range(256)) * 400
FILES = {
    BASE: {"model-00001-of-00001.safetensors": SHARD, "config.json": b"{}", "README.md": b"# card", "demo.mp4": b"no"},
    ADAPTER: {"adapter_model.safetensors": b"lora", "non_lora_trainables.bin": b"rest"},
    VSTI: {"adapter_model.safetensors": b"other lora"},
}
SHARD_PATH = "base/model-00001-of-00001.safetensors"


@pytest.fixture
def hub(monkeypatch):
    with Hub(FILES) as server:
        point_client_at(monkeypatch, server.url)
        yield server


def point_client_at(monkeypatch, url: str) -> None:
    """As HF_ENDPOINT does when the client is imported; its chunks are made smaller than the files here."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)


@pytest.fixture
def run(capfd):
    """The command line; gives exit status, standard output and standard error."""

    def run_fetch(folder: Path) -> tuple[int, str, str]:
        status = main(["fetch", "vlm3r-7b", str(folder)])
        return status, *capfd.readouterr()

    return run_fetch


def run_process(folder: Path, **environment: str) -> subprocess.CompletedProcess:
    """As a person runs it."""
    return subprocess.run(
        [sys.executable, "-m", "vlm3r_core.weights", "fetch", "vlm3r-7b", str(folder)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def manifest(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())


def test_fetch_then_the_step_by_hand_then_done(hub, tmp_path):
    folder = tmp_path / "files"
    first = run_process(folder, HF_ENDPOINT=hub.url)
    assert first.returncode == 1, first.stderr
    assert f"Download {KNOWN['vlm3r-7b'].cut3r_page}" in first.stdout
    assert str(folder / CUT3R) in first.stdout
    assert "apache-2.0" in first.stderr
    assert "CC BY-NC-SA 4.0, non-commercial" in first.stderr
    assert (folder / SHARD_PATH).read_bytes() == SHARD
    assert (folder / "adapter-vsti/adapter_model.safetensors").read_bytes() == b"other lora"
    assert not (folder / "base/demo.mp4").exists()
    assert "non-commercial" in (folder / "LICENCES.md").read_text()
    entry = manifest(folder)["files"][SHARD_PATH]
    digest = hashlib.sha256(SHARD).hexdigest()
    assert entry == {"repository": BASE, "revision": REVISION, "bytes": len(SHARD), "sha256": digest}
    assert len(manifest(folder)["files"]) == 6

    (folder / CUT3R).write_bytes(b"weights")
    asked = len(hub.asked)
    second = run_process(folder, HF_ENDPOINT=hub.url)
    assert second.returncode == 0, second.stderr
    assert len(hub.asked) == asked, "what is there is not fetched again"
    assert f"check base={folder / 'base'},adapter={folder / 'adapter'}" in second.stdout
    assert manifest(folder)["files"][CUT3R]["sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert list(folder.rglob("*.partial")) == []


def test_an_interrupted_download_goes_on_where_it_stopped(hub, run, tmp_path):
    name = Path(SHARD_PATH).name
    partial = tmp_path / f"base/.{name}.{REVISION[:12]}.partial"
    partial.parent.mkdir()
    partial.write_bytes(SHARD[:70_000])
    assert run(tmp_path)[0] == 1
    assert (name, "bytes=70000-") in hub.asked
    assert (tmp_path / SHARD_PATH).read_bytes() == SHARD
    assert not partial.exists()


def test_a_cut_connection_is_taken_up_by_the_next_run(hub, run, tmp_path):
    """The client tries again a few times, each is cut; what came is kept."""
    name = Path(SHARD_PATH).name
    hub.cut_after[name] = 50_000
    status, _, said = run(tmp_path)
    assert status == 1
    assert f"cannot reach the hub for {BASE}/{name}" in said
    assert "what is there already is kept" in said
    assert not (tmp_path / SHARD_PATH).exists()
    assert (tmp_path / f"base/.{name}.{REVISION[:12]}.partial").read_bytes() == SHARD[:50_000]
    del hub.cut_after[name]
    hub.asked.clear()
    assert run(tmp_path)[0] == 1
    assert hub.asked[0] == (name, "bytes=50000-")
    assert (tmp_path / SHARD_PATH).read_bytes() == SHARD


def test_a_damaged_file_is_fetched_again(hub, run, tmp_path):
    run(tmp_path)
    (tmp_path / SHARD_PATH).write_bytes(SHARD[:-1])
    hub.asked.clear()
    run(tmp_path)
    assert hub.asked == [(Path(SHARD_PATH).name, None)]
    assert (tmp_path / SHARD_PATH).read_bytes() == SHARD


def test_without_manifest_large_files_are_kept_by_their_hash(hub, run, tmp_path):
    run(tmp_path)
    (tmp_path / "manifest.json").write_text("no JSON")
    hub.asked.clear()
    run(tmp_path)
    assert {name for name, _ in hub.asked} == {"config.json", "README.md"}


def test_a_file_with_another_hash_is_refused(hub, run, tmp_path):
    hub.wrong_hash = "0" * 64
    status, _, said = run(tmp_path)
    assert status == 1
    assert "came out wrong: its size or SHA-256 is not what the hub states" in said
    assert not (tmp_path / SHARD_PATH).exists()
    assert list(tmp_path.rglob("*.partial")) == []


def test_without_a_network(monkeypatch, run, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        point_client_at(monkeypatch, f"http://127.0.0.1:{free.getsockname()[1]}")
        status, _, said = run(tmp_path)
    assert status == 1
    assert f"cannot reach the hub for {BASE}" in said
    assert "check the network, HF_ENDPOINT and HF_HUB_OFFLINE" in said


def test_in_offline_mode(tmp_path):
    done = run_process(tmp_path, HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 1
    assert f"cannot reach the hub for {BASE}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_repository_that_is_gone(monkeypatch, run, tmp_path):
    with Hub({BASE: FILES[BASE]}) as server:
        point_client_at(monkeypatch, server.url)
        status, _, said = run(tmp_path)
    assert status == 1
    assert f"the hub does not show {ADAPTER}: it was renamed or removed, or needs a login" in said
    assert not (tmp_path / SHARD_PATH).exists(), "nothing is fetched before all is known"


def test_licences_that_the_hub_does_not_state(hub, run, tmp_path):
    hub.licence = ""
    assert f"not stated; see the page of {BASE}" in run(tmp_path)[2]
    assert manifest(tmp_path)["licences"]["base"] == f"not stated; see the page of {BASE}"


def test_too_little_room(hub, run, monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 10**6))
    status, _, said = run(tmp_path)
    assert status == 2
    assert "has 0.0 GB free, 0.0 GB are to come and 1 GB stays free" in said
    assert hub.asked == []
