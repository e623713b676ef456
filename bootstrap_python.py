"""Finds the ROS 2 and the Python that the environment is made of. Used by bootstrap.py only; makes nothing."""

from __future__ import annotations

import glob
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent
OLDEST = (3, 11)
TESTED = ((3, 12), (3, 11))  # newest first; the ROS wheels exist for these two
# A sourced ROS, or a workspace built here earlier, must not reach an environment that brings its own ROS.
ROS_VARIABLES = ("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH", "COLCON_PREFIX_PATH", "PYTHONPATH")
# Set by the ROS wheels in every process of one environment, wrong in a process of another one.
WHEELS_GUARD = "_ROS_WHEELS_BOOTSTRAP_COMPLETE"

DESCRIBE_PYTHON = """
import importlib.util, json, os, sys, sysconfig
print(json.dumps({
    "version": list(sys.version_info[:2]),
    "path": getattr(sys, "_base_executable", None) or sys.executable,
    "venv": all(map(importlib.util.find_spec, ("venv", "ensurepip"))),
    "headers": os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")),
}))
"""

# Runs in a throw-away environment: its pip says what it would install, and reads the wheel's requirements.
ASK_TORCH = """
import json, subprocess, sys
from pip._vendor.packaging.requirements import Requirement
torch, target, *versions = sys.argv[1:]
for version in versions:
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--no-deps", "--no-input", torch,
               "--report=-", "--only-binary=:all:", f"--python-version={version}", f"--target={target}"]
    run = subprocess.run(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    if run.returncode:
        print(version, "none")
        continue
    metadata = json.loads(run.stdout)["install"][0]["metadata"]
    here = {"python_version": version, "extra": ""}
    every = map(Requirement, metadata.get("requires_dist", ()))
    needed = [each.name for each in every if not each.marker or each.marker.evaluate(here)]
    cuda = any(name.startswith(("nvidia", "cuda", "triton", "pytorch-triton")) for name in needed)
    print(version, "cuda" if cuda or "+cu" in metadata["version"] else "cpu")
"""


class SetupError(Exception):
    """What was expected, what came, what to do."""


@dataclass(frozen=True)
class Python:
    """An interpreter that can be the base of an environment."""

    path: str
    version: tuple[int, int]
    problem: str = ""  # why it cannot be used, "" if it can

    def __str__(self) -> str:
        return f"Python {self.version[0]}.{self.version[1]} ({self.path})"


def say(text: str) -> None:
    """Prints one line of progress at once."""
    print(f"setup: {text}", flush=True)


def output_of(command: list[str], *, env: dict[str, str] | None = None, timeout_s: float = 60) -> str | None:
    """Standard output of a command, None where it fails, is absent or takes too long."""
    try:
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=timeout_s
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def without_ros() -> dict[str, str]:
    """The variables of this process without anything of a ROS."""
    return {key: value for key, value in os.environ.items() if key not in (*ROS_VARIABLES, WHEELS_GUARD)}


def describe(command: str) -> Python | None:
    """The base interpreter behind a command, None where there is none."""
    text = output_of([command, "-c", DESCRIBE_PYTHON], env=without_ros())
    if text is None:
        return None
    found = json.loads(text)
    problem = ""
    if not found["venv"]:
        problem = "its venv and ensurepip modules are missing (Debian and Ubuntu: package python3.x-venv)"
    elif not found["headers"]:
        problem = "its Python.h is missing (Debian and Ubuntu: package python3.x-dev)"
    return Python(found["path"], tuple(found["version"]), problem)


def find_ros() -> tuple[str, Python] | None:
    """The sourced ROS 2 and the Python it runs on, None where no ROS 2 is sourced.

    Raises:
        SetupError: one is sourced but cannot be used.
    """
    distro = os.environ.get("ROS_DISTRO")
    if not distro or not os.environ.get("AMENT_PREFIX_PATH"):
        return None
    for command in ("python3", "/usr/bin/python3"):
        python = describe(command)
        if python and output_of([python.path, "-c", "import rclpy"]) is not None:
            break
    else:
        raise SetupError(
            f"ROS_DISTRO is {distro}, but no python3 imports rclpy. Source its setup.bash in this shell, or unset "
            "ROS_DISTRO to use the ROS wheels from PyPI instead."
        )
    if python.version < OLDEST or python.problem:
        reason = python.problem or "Python 3.11 or newer is needed (ROS 2 Jazzy and later)"
        raise SetupError(
            f"ROS 2 {distro} is sourced and runs on {python}: {reason}. Fix that, or run make in a shell in which no "
            "ROS is sourced; the ROS wheels from PyPI are used then."
        )
    return distro, python


def find_pythons() -> list[Python]:
    """One interpreter for each tested version, newest version first; unusable ones carry their problem."""
    found: dict[tuple[int, int], Python] = {}
    for major, minor in TESTED:
        name = f"python{major}.{minor}"
        commands = [name, "python3", sys.executable, f"/usr/bin/{name}"]
        # pyenv's shims refuse versions that are installed but not selected
        pyenv = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
        commands += sorted(glob.glob(f"{pyenv}/versions/{major}.{minor}.*/bin/{name}"), reverse=True)
        for command in commands:
            python = describe(command)
            if python is None or python.version != (major, minor):
                continue
            if python.version not in found or found[python.version].problem:
                found[python.version] = python
            if not python.problem:
                break
    return list(found.values())


def pinned(name: str) -> str:
    """The version constraints.txt gives a package."""
    match = re.search(rf"^{re.escape(name)}==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    if match is None:
        raise SetupError(f"constraints.txt must pin {name} (a line {name}==VERSION), it does not; add the line")
    return match.group(1)


def torch_builds(pythons: list[Python]) -> dict[tuple[int, int], str]:
    """Which build of torch pip would install for each version: cpu, cuda, none or unknown (pip did not answer)."""
    versions = {f"{p.version[0]}.{p.version[1]}": p.version for p in pythons}
    builds = dict.fromkeys(versions.values(), "unknown")
    with tempfile.TemporaryDirectory() as folder:
        if output_of([pythons[0].path, "-m", "venv", folder], env=without_ros()) is None:
            return builds
        command = [f"{folder}/bin/python", "-c", ASK_TORCH, f"torch=={pinned('torch')}", f"{folder}/target", *versions]
        answer = output_of(command, env=without_ros(), timeout_s=300) or ""
    for line in answer.splitlines():
        version, build = line.split()
        builds[versions[version]] = build
    return builds


def has_nvidia_gpu() -> bool:
    """True where an NVIDIA driver lists a GPU."""
    return "GPU " in (output_of(["nvidia-smi", "-L"]) or "")


def choose_python() -> tuple[Python, str]:
    """The interpreter for an environment with the ROS wheels, and why this one.

    Raises:
        SetupError: no interpreter of a tested version can be used.
    """
    forced = os.environ.get("VLM3R_PYTHON")
    if forced:
        python = describe(forced)
        if python is None or python.problem or python.version not in TESTED:
            raise SetupError(
                f"VLM3R_PYTHON must name a Python 3.11 or 3.12 with venv and Python.h, got {forced}: "
                f"{(python and (python.problem or python)) or 'it does not start'}; correct or unset it"
            )
        return python, "VLM3R_PYTHON names it"
    found = find_pythons()
    usable = [python for python in found if not python.problem]
    if not usable:
        seen = "; ".join(f"{p}: {p.problem}" for p in found) or "found neither"
        raise SetupError(
            f"Python 3.11 or 3.12 with venv and Python.h is needed, {seen}. Install one (apt, pyenv, uv or "
            "conda; no root is needed for the last three), or set VLM3R_PYTHON to its path."
        )
    if len(usable) == 1:
        return usable[0], "the only usable Python 3.11 or 3.12 here"
    return pick(usable, torch_builds(usable), "cuda" if has_nvidia_gpu() else "cpu")


def pick(usable: list[Python], builds: dict[tuple[int, int], str], wanted: str) -> tuple[Python, str]:
    """The newest interpreter with the wanted build of torch at hand, else the newest with any.

    Args:
        usable: interpreters, newest first.
        builds: cpu, cuda, none or unknown for each version.
        wanted: cpu or cuda.
    """
    reason = "an NVIDIA GPU is present" if wanted == "cuda" else "no NVIDIA GPU is present"
    offers = ", ".join(f"{p.version[0]}.{p.version[1]}: {builds[p.version]}" for p in usable)
    for python in usable:
        if builds[python.version] == wanted:
            return python, f"{reason}, and pip offers torch builds {offers}; the newest with a {wanted} build"
    for python in usable:
        if builds[python.version] != "none":
            return python, f"{reason}, but pip offers torch builds {offers}; the newest with any build"
    return usable[0], f"{reason}; pip offers no build of torch {pinned('torch')} for any of {offers}; the newest"
