"""The simulator's benchmark runs, and its worlds are what they are called."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("embreex", reason="embreex (extra `sim`) is not installed")
pytest.importorskip("trimesh", reason="trimesh (extra `sim`) is not installed")
pytest.importorskip("zmq", reason="pyzmq (extra `sim`) is not installed")
pytest.importorskip("msgpack", reason="msgpack (extra `sim`) is not installed")

from benchmarks import bench_sim
from benchmarks.sim_worlds import flat_boxes, scanned_flat, textured_flat


def test_short_run_writes_its_numbers(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("VLM3R_HABITAT_PYTHON", "/no/such/python")
    out = tmp_path / "deep" / "result.json"
    short = ["--frames", "1", "--paths", "1", "--triangles", "20000", "--small-house", str(tmp_path), "--out", str(out)]
    short += ["--episodes", "1"]
    assert bench_sim.main(short) == 0
    result = json.loads(out.read_text())
    assert [row["name"] for row in result["worlds"]] == ["flat", "scan"]
    assert result["target"]["name"] == "frames/s, flat, 224x224"
    assert all(value > 0 for row in result["worlds"] for key, value in row.items() if key != "name")
    assert min(result["episodes_per_hour"].values()) > 0
    printed = capsys.readouterr().out
    assert "| world" in printed
    assert "Habitat is not installed (no Python interpreter at '/no/such/python'" in printed
    assert str(out) in printed


def test_wrong_numbers_are_refused(capsys):
    with pytest.raises(SystemExit):
        bench_sim.parse_arguments(["--frames", "0"])
    assert "--frames must be at least 1, got 0" in capsys.readouterr().err


def test_scan_has_about_the_triangles_asked_for_and_the_flats_shape():
    scan, boxes = scanned_flat(200_000), flat_boxes()
    # Every side is cut into whole cells, so there are some more.
    assert 200_000 <= len(scan.faces) <= 230_000
    lows, highs = (np.array([box[side] for box in boxes.values()]) for side in (0, 1))
    # five standard deviations of the noise
    np.testing.assert_allclose(scan.bounds, [lows.min(axis=0), highs.max(axis=0)], atol=5e-3)


def test_boxes_face_outwards():
    volume = sum(np.prod(high - low) for low, high in flat_boxes().values())
    assert textured_flat().to_mesh().volume == pytest.approx(volume)
