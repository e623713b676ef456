"""What is installed, pinned and tracked: manifests, entry points, package data, constraints, colcon."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from catkin_pkg.package import parse_package
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import vlm3r_core

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
MANIFESTS = {"vlm3r": ROOT, "vlm3r_interfaces": ROOT / "ros2_ws" / "src" / "vlm3r_interfaces"}
LARGEST_TRACKED_BYTES = 20_000_000
# import name -> name on PyPI where they differ
DISTRIBUTIONS = {"PIL": "pillow", "zmq": "pyzmq"}
# ROS packages that no wheel exists for: the launch files need a ROS 2 with them, the simulator's /tf appears with one
APT_ONLY = {"launch", "launch_ros", "tf2_msgs"}


def requirements(*groups: list[str]) -> list[Requirement]:
    """Requirements of other projects in lists of pyproject.toml."""
    every = [Requirement(line) for group in groups for line in group]
    return [requirement for requirement in every if requirement.name != PROJECT["name"]]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def outside_imports(folder: str) -> set[str]:
    """Top names of everything a folder imports that is neither ours nor the standard library."""
    names = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"vlm3r_core", "vlm3r_ros"}


@pytest.mark.parametrize(("name", "build_type"), [("vlm3r", "ament_python"), ("vlm3r_interfaces", "ament_cmake")])
def test_manifest_is_valid_and_agrees_with_the_python_package(name, build_type):
    package = parse_package(str(MANIFESTS[name]), warnings=(warnings := []))
    assert (package.name, package.get_build_type(), package.licenses) == (name, build_type, ["Apache-2.0"])
    assert package.version == vlm3r_core.__version__
    assert warnings == []


def test_every_interface_file_is_built():
    folder = MANIFESTS["vlm3r_interfaces"]
    files = {str(p.relative_to(folder)) for kind in ("msg", "srv", "action") for p in folder.glob(f"{kind}/*.{kind}")}
    listed = set(re.findall(r'"((?:msg|srv|action)/\S+)"', (folder / "CMakeLists.txt").read_text()))
    assert listed == files


@pytest.mark.parametrize("program", PROJECT["scripts"])
def test_program_leads_to_a_main_function(program):
    module, function = PROJECT["scripts"][program].split(":")
    spec = importlib.util.find_spec(module)
    assert spec is not None, f"{program} names the module {module}, which does not exist"
    tree = ast.parse(Path(spec.origin).read_text())
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_constraints_pin_every_dependency_within_its_range():
    pinned = pins()
    for requirement in requirements(PROJECT["dependencies"], *EXTRAS.values()):
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"constraints.txt must pin {name}"
        assert requirement.specifier.contains(pinned[name]), f"{name}=={pinned[name]} is outside {requirement}"


def test_constraints_name_each_package_once():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    assert len(lines) == len(pins())


def test_core_imports_only_what_is_declared():
    declared = {canonicalize_name(r.name) for r in requirements(PROJECT["dependencies"])}
    imported = {canonicalize_name(DISTRIBUTIONS.get(name, name)) for name in outside_imports("vlm3r_core")}
    assert imported <= declared, f"add to pyproject.toml and constraints.txt: {sorted(imported - declared)}"


def test_simulator_imports_only_what_is_declared():
    declared = {canonicalize_name(r.name) for r in requirements(PROJECT["dependencies"], EXTRAS["sim"])}
    imported = {canonicalize_name(DISTRIBUTIONS.get(name, name)) for name in outside_imports("sim") - {"sim"}}
    others = {"habitat-sim", *(r.name.removeprefix("ros-") for r in requirements(EXTRAS["ros"])), "vlm3r-interfaces"}
    others |= {canonicalize_name(name) for name in APT_ONLY}
    assert imported - others <= declared, f"add to the extra `sim` and constraints.txt: {sorted(imported - declared)}"


def test_ros_packages_in_use_are_in_the_manifest_and_in_the_wheels():
    names = outside_imports("ros2_ws/src/vlm3r_ros") | outside_imports("launch")
    declared = {r.name for r in requirements(PROJECT["dependencies"])} | set(DISTRIBUTIONS)
    ros = {name for name in names if name not in declared}
    manifest = {d.name for d in parse_package(str(ROOT)).exec_depends}
    assert ros <= manifest, f"add to package.xml: {sorted(ros - manifest)}"
    wheels = {r.name.removeprefix("ros-").replace("-", "_") for r in requirements(EXTRAS["ros"])}
    missing = ros - wheels - APT_ONLY - {"vlm3r_interfaces"}
    assert not missing, f"add to the extra `ros` in pyproject.toml: {sorted(missing)}"


def test_colcon_finds_pytest_in_the_extra_it_reads():
    assert "pytest" in {requirement.name for requirement in requirements(EXTRAS["test"])}


def test_no_large_file_is_tracked():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [ROOT / name for name in listed.split("\0") if name]
    large = [f"{p.name}: {p.stat().st_size}" for p in paths if p.is_file() and p.stat().st_size > LARGEST_TRACKED_BYTES]
    assert large == []


@pytest.mark.parametrize("target", ["demo", "test"])
def test_readme_names_the_command(target):
    assert f"make {target}" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("target", ["setup", "test", "lint", "bench", "clean"])
def test_contributing_names_the_command(target):
    assert f"make {target}" in (ROOT / "CONTRIBUTING.md").read_text()


def dry_make(*words: str) -> str:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    # this test may itself run under make, whose variables change what a make inside it prints
    env = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(["make", "-n", *words], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    return done.stdout


def test_make_targets_set_up_first():
    for target in ("demo", "test", "lint", "bench", "train-tiny"):
        assert "bootstrap.py" in dry_make(target).splitlines()[0], target


def test_make_demo_passes_the_clip_on():
    assert '"my clips/a.mp4"' in dry_make("demo", "CLIP=my clips/a.mp4")
    assert "--clip" not in dry_make("demo")


def test_make_demo_passes_the_model_on():
    assert '--model "my models/vlm3r"' in dry_make("demo", "MODEL=my models/vlm3r")
    assert "--model" not in dry_make("demo")


def test_make_demo_passes_the_world_on():
    command = dry_make("demo", "SIM=my worlds/house.glb", "MODEL=tiny")
    assert '-m vlm3r_ros.demo_sim --world "my worlds/house.glb" --model "tiny"' in " ".join(command.split())
    # without a clip it is the simulated room
    assert "demo_sim" in dry_make("demo")
    assert "demo_sim" not in dry_make("demo", "CLIP=walk.mp4")


def test_make_train_tiny_passes_the_budget_on():
    command = " ".join(dry_make("train-tiny", "BUDGET_MIN=10", "ARGS=--install").split())
    assert "-m training.tiny --budget-min 10 --install" in command
    assert "--budget-min" not in dry_make("train-tiny")


def test_build_server_runs_the_tests():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text()


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory) -> set[str]:
    """Names in a wheel built from a copy of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    skip = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "out", "build", "install", "log", "dist")
    shutil.copytree(ROOT, folder / "source", ignore=skip)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "-w", str(folder), str(folder / "source")], check=True, stdin=subprocess.DEVNULL)
    (wheel,) = folder.glob("vlm3r-*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_wheel_contains_every_module(wheel_names):
    for folder, package in (("vlm3r_core", "vlm3r_core"), ("ros2_ws/src/vlm3r_ros", "vlm3r_ros")):
        for path in (ROOT / folder).rglob("*.py"):
            assert f"{package}/{path.relative_to(ROOT / folder)}" in wheel_names


def test_wheel_contains_assets_launch_files_and_the_ros_index(wheel_names):
    assets = [path for path in (ROOT / "vlm3r_core" / "assets").rglob("*") if path.is_file()]
    expected = {str(path.relative_to(ROOT)) for path in assets if "__pycache__" not in path.parts}
    shared = {f"share/vlm3r/launch/{path.name}" for path in (ROOT / "launch").iterdir() if path.is_file()}
    shared |= {"share/vlm3r/package.xml", "share/ament_index/resource_index/packages/vlm3r"}
    data = {name.partition(".data/data/")[2] for name in wheel_names}
    assert expected
    assert expected <= wheel_names
    assert shared <= data


def test_wheel_leaves_out_what_runs_from_a_checkout(wheel_names):
    tops = {name.split("/")[0] for name in wheel_names}
    assert not tops & {"training", "sim", "tests", "benchmarks", "bootstrap.py"}


def test_colcon_finds_both_packages_interfaces_first():
    if importlib.util.find_spec("colcon_core") is None:
        pytest.skip("colcon is not installed")
    command = [sys.executable, "-m", "colcon", "--log-base", os.devnull, "list", "--topological-order"]
    done = subprocess.run(command, cwd=ROOT / "ros2_ws", capture_output=True, text=True, check=True)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [(line[0], line[2]) for line in lines] == [
        ("vlm3r_interfaces", "(ros.ament_cmake)"),
        ("vlm3r", "(ros.ament_python)"),
    ]
