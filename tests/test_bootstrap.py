"""The decisions of `make setup`: which Python, which ROS, what to do again after an interruption."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import bootstrap
import bootstrap_python
from bootstrap_python import Python, SetupError, pick

NEW, OLD = Python("/a/python3.12", (3, 12)), Python("/a/python3.11", (3, 11))


@pytest.mark.parametrize(
    ("builds", "wanted", "expected"),
    [
        ({NEW.version: "cuda", OLD.version: "cpu"}, "cpu", OLD),
        ({NEW.version: "cuda", OLD.version: "cpu"}, "cuda", NEW),
        ({NEW.version: "cpu", OLD.version: "cpu"}, "cpu", NEW),
        ({NEW.version: "cpu", OLD.version: "cpu"}, "cuda", NEW),
        ({NEW.version: "none", OLD.version: "cuda"}, "cpu", OLD),
        ({NEW.version: "unknown", OLD.version: "unknown"}, "cpu", NEW),
        ({NEW.version: "none", OLD.version: "none"}, "cpu", NEW),
    ],
)
def test_python_follows_the_torch_build_at_hand(builds, wanted, expected):
    python, why = pick([NEW, OLD], builds, wanted)
    assert python == expected
    assert f"3.12: {builds[NEW.version]}, 3.11: {builds[OLD.version]}" in why


def test_running_python_is_described():
    python = bootstrap_python.describe(sys.executable)
    assert python.version == sys.version_info[:2]


def test_missing_program_is_no_python():
    assert bootstrap_python.describe("/nowhere/python3") is None


def test_nothing_sourced_is_no_ros(monkeypatch):
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    assert bootstrap_python.find_ros() is None


def test_half_sourced_ros_is_refused(monkeypatch, tmp_path):
    shadow = tmp_path / "rclpy.py"
    shadow.write_text("raise ImportError('not this one')")
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(SetupError, match="jazzy, but no python3 imports rclpy"):
        bootstrap_python.find_ros()


def test_forced_python_must_exist(monkeypatch):
    monkeypatch.setenv("VLM3R_PYTHON", "/nowhere/python3")
    with pytest.raises(SetupError, match="got /nowhere/python3: it does not start"):
        bootstrap_python.choose_python()


def test_torch_pin_is_read():
    assert bootstrap_python.pinned("torch").count(".") == 2
    with pytest.raises(SetupError, match="must pin nosuchthing"):
        bootstrap_python.pinned("nosuchthing")


@pytest.fixture
def venv(monkeypatch, tmp_path):
    """An empty folder in place of .venv."""
    for name in ("VENV", "STAMP", "INCOMPLETE", "PYTHON"):
        old = getattr(bootstrap, name)
        monkeypatch.setattr(bootstrap, name, tmp_path / old.relative_to(bootstrap.ROOT))
    bootstrap.VENV.mkdir()
    return bootstrap.VENV


def test_stamps_add_up_and_a_torn_file_counts_as_none(venv):
    bootstrap.write_stamp(core="a")
    bootstrap.write_stamp(packages="b")
    assert bootstrap.read_stamps() == {"core": "a", "packages": "b"}
    bootstrap.STAMP.write_text('{"core": ')
    assert bootstrap.read_stamps() == {}


def test_digest_follows_content_and_words():
    files = [bootstrap.ROOT / "setup.py", bootstrap.ROOT / "setup.cfg"]
    assert bootstrap.digest(files, "wheels") == bootstrap.digest(files[::-1], "wheels")
    assert bootstrap.digest(files, "wheels") != bootstrap.digest(files, "jazzy")
    assert bootstrap.digest(files) != bootstrap.digest(files[:1])


def test_half_installed_package_is_installed_again(venv):
    site = venv / "lib" / "python3.11" / "site-packages"
    for name, whole in (("good-1.dist-info", True), ("torn-1.dist-info", False)):
        (site / name).mkdir(parents=True)
        (site / name / "METADATA").touch()
        if whole:
            (site / name / "RECORD").touch()
    bootstrap.drop_half_installed()
    assert [path.name for path in site.iterdir()] == ["good-1.dist-info"]


def link_this_python(venv):
    (venv / "bin").mkdir()
    base = bootstrap_python.describe(sys.executable).path
    subprocess.run([base, "-m", "venv", "--without-pip", venv], check=True)


def test_environment_without_pip_is_made_anew(venv):
    link_this_python(venv)
    assert bootstrap.existing_plan(None) is None


def test_unfinished_environment_is_made_anew(venv):
    bootstrap.INCOMPLETE.touch()
    assert bootstrap.existing_plan(None) is None


def test_environment_of_a_ros_that_is_not_sourced_is_refused(venv, monkeypatch):
    link_this_python(venv)
    monkeypatch.setattr(bootstrap, "environment_works", lambda: True)
    bootstrap.STAMP.write_text(json.dumps({"ros": "jazzy", "root": str(bootstrap.ROOT)}))
    with pytest.raises(SetupError, match="was made with ROS 2 jazzy, which is not sourced"):
        bootstrap.existing_plan(None)


def test_sourced_ros_keeps_its_numpy(venv):
    base = bootstrap_python.describe(sys.executable)
    adapted = bootstrap.constraints_for(bootstrap.Plan("jazzy", Python(sys.executable, base.version), "")).read_text()
    import numpy

    assert f"numpy=={numpy.__version__}" in adapted
    assert "empy==" not in adapted
    assert "torch==" in adapted


def test_failed_command_is_named_and_its_log_shown(tmp_path, capfd):
    command = [sys.executable, "-c", "print('the reason'); raise SystemExit(3)"]
    with pytest.raises(SetupError, match="planting failed with exit status 3"):
        bootstrap.run(command, env=dict(os.environ), what="planting", log=tmp_path / "log")
    assert "the reason" in capfd.readouterr().err


def test_second_setup_waits_for_the_first():
    code = "import bootstrap\nwith bootstrap.only_one():\n    print('in', flush=True)"
    with bootstrap.only_one():
        other = subprocess.Popen([sys.executable, "-c", code], cwd=bootstrap.ROOT, stdout=subprocess.PIPE, text=True)
        first = other.stdout.readline()
    rest, _ = other.communicate(timeout=60)
    assert "waiting for it" in first
    assert rest.strip() == "in"
