"""Runs habitat_server.py as a child process and asks it questions. Knows no axes and no robot.

The server keeps nothing but the loaded scene, so one that died is replaced once without anybody noticing; a second
death is an error.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from dataclasses import dataclass
from pathlib import Path

import zmq

from sim.habitat_server import MAX_REPLY_BYTES, MAX_REQUEST_BYTES, PROTOCOL, pack, unpack
from vlm3r_core.config import check_settings, setting

PYTHON_VARIABLE = "VLM3R_HABITAT_PYTHON"
SERVER_PROGRAM = Path(__file__).with_name("habitat_server.py")
_GUIDE = "docs/habitat.md says how to install it"
# Keeps the folder of a script, which has modules named like anybody's, off the server's import path.
_RUN_PROGRAM = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
# habitat_sim reads this file of its working directory. Its pictures do not exist on purpose: that skips five seconds
# of preparing reflections, which flat shading does not use.
_LIGHT_FILE = Path("data", "default.pbr_config.json")
_LIGHT_CONTENT = '{"ibl_blut_filename": "none.png", "ibl_envmap_filename": "none.hdr"}\n'
# Where a module is called otherwise on PyPI.
_PACKAGES = {"zmq": "pyzmq", "quaternion": "numpy-quaternion", "attr": "attrs"}
_TAIL_LINES = 15
_ALIVE_CHECK_MS = 100
_QUIT_S = 2.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerSettings:
    """How long the server may take."""

    start_s: float = setting(120.0, "to start and import habitat_sim, seconds", span=(0.1, 3600.0))
    load_s: float = setting(600.0, "to open a scene and compute where one can walk, seconds", span=(0.1, 36000.0))
    call_s: float = setting(60.0, "to answer anything else, seconds", span=(0.1, 3600.0))

    def __post_init__(self):
        check_settings(self)


class ServerDied(RuntimeError):
    """The server's process ended, or was ended because it did not answer."""


def find_interpreter(python: str | None = None) -> str:
    """The Python that has habitat_sim.

    Args:
        python: its path or name; the environment variable VLM3R_HABITAT_PYTHON by default, else this one.

    Raises:
        FileNotFoundError: there is no such program.
    """
    wanted = python or os.environ.get(PYTHON_VARIABLE) or sys.executable
    found = shutil.which(wanted)
    if found is None:
        raise FileNotFoundError(
            f"no Python interpreter at {wanted!r}; give the one habitat_sim is installed in, as an argument or in "
            f"{PYTHON_VARIABLE} ({_GUIDE})"
        )
    return found


def habitat_problem(python: str | None = None) -> str:
    """Why Habitat cannot be used with an interpreter, as find_interpreter takes it; empty where it can."""
    try:
        found = find_interpreter(python)
    except FileNotFoundError as error:
        return str(error)
    command = [found, "-c", "import habitat_sim, numpy, zmq, msgpack"]
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(), stdin=subprocess.DEVNULL)
    return f"{found}: {(done.stderr.strip().splitlines() or ['it fails'])[-1]}" if done.returncode else ""


def _environment() -> dict[str, str]:
    """Variables for Habitat's Python: quiet, and without paths to modules of our own Python or of a sourced ROS."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return kept | {"HABITAT_SIM_LOG": "quiet", "MAGNUM_LOG": "quiet"}


class HabitatClient:
    """Calls to a server in a working folder of its own.

    Args:
        python: interpreter to run it with.
        settings: how long things may take.
        program: what to run; it takes `--endpoint` and speaks the protocol of habitat_server.py.

    Raises:
        RuntimeError: the server does not start, or speaks another version of the protocol.
        TimeoutError: it is not ready in time.
    """

    def __init__(self, python: str, settings: ServerSettings | None = None, program: Path = SERVER_PROGRAM):
        self.settings = settings or ServerSettings()
        self._command = [python, "-c", _RUN_PROGRAM, str(Path(program).resolve())]
        self.folder = Path(tempfile.mkdtemp(prefix="vlm3r_habitat_"))
        self._scene: dict | None = None
        self._replaced = False
        self._lock = threading.Lock()
        self._server: ServerProcess | None = None
        self._cleanup = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        light = self.folder / _LIGHT_FILE
        light.parent.mkdir()
        light.write_text(_LIGHT_CONTENT, encoding="utf-8")
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Process number of the server.

        Raises:
            RuntimeError: it was closed.
        """
        if self._server is None:
            raise RuntimeError("the connection to Habitat was closed")
        return self._server.pid

    def load(self, **scene: object) -> dict:
        """Opens a scene; a server that replaces a dead one opens it again. Arguments as the call `load` takes them."""
        with self._lock:
            reply = self._running().ask("load", scene, self.settings.load_s)
            self._scene = scene
            return reply

    def call(self, name: str, **args: object) -> dict:
        """Asks the server.

        Args:
            name: of the call.
            args: what it takes.

        Returns:
            What it gives.

        Raises:
            TimeoutError: no answer in time; the server is ended.
            RuntimeError: habitat_sim refused, the server died for the second time, or the connection was closed.
        """
        with self._lock:
            try:
                return self._running().ask(name, args, self.settings.call_s)
            except ServerDied as death:
                if self._replaced or self._scene is None:
                    raise RuntimeError(
                        f"{death}\nIt had been started again once already; open the world anew."
                    ) from None
                self._replace(death)
                return self._running().ask(name, args, self.settings.call_s)

    def close(self) -> None:
        """Ends the server and removes its folder; twice is fine."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self._cleanup()

    def _running(self) -> ServerProcess:
        if self._server is None:
            raise RuntimeError("the connection to Habitat was closed; open the world anew")
        return self._server

    def _replace(self, death: ServerDied) -> None:
        _log.warning("%s\nStarting it once more.", death)
        self._replaced = True
        self._server.close()
        self._start()
        self._server.ask("load", self._scene, self.settings.load_s)

    def _start(self) -> None:
        self._server = ServerProcess(self._command, self.folder)
        hello = self._server.ask("hello", {}, self.settings.start_s)
        if hello.get("protocol") != PROTOCOL:
            raise RuntimeError(
                f"{self._command[-1]} speaks version {hello.get('protocol')!r} of the protocol, this side {PROTOCOL}; "
                "use the habitat_server.py of this checkout"
            )
        _log.info("%s on Python %s, process %s", hello.get("backend"), hello.get("python"), self.pid)


class ServerProcess:
    """One server process and the socket to it.

    Args:
        command: to run, `--endpoint` is added.
        folder: working directory; socket and log are put there.
    """

    def __init__(self, command: list[str], folder: Path):
        number = len(list(folder.glob("*.log")))
        self._log_file = folder / f"server{number}.log"
        endpoint = f"ipc://{folder}/socket{number}"
        with open(self._log_file, "wb") as log:
            self._process = subprocess.Popen(
                [*command, "--endpoint", endpoint],
                cwd=folder,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for this side, which then closes the server
            )
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.REQ)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_REPLY_BYTES)
        self._socket.connect(endpoint)
        self._count = 0
        self._cleanup = weakref.finalize(self, _end, self._process, self._socket, self._context)

    @property
    def pid(self) -> int:
        """Process number."""
        return self._process.pid

    def ask(self, name: str, args: dict, limit_s: float) -> dict:
        """Sends a request and waits for its reply.

        Raises:
            ServerDied: the process ended.
            TimeoutError: no reply in time; the process is ended.
            RuntimeError: the reply is an error, or no reply of this protocol.
            ValueError: the request is too large.
        """
        self._count += 1
        request = pack({"id": self._count, "call": name, "args": args})
        if len(request) > MAX_REQUEST_BYTES:
            raise ValueError(f"a request has at most {MAX_REQUEST_BYTES} bytes, {name} has {len(request)}")
        if not self._cleanup.alive:
            raise ServerDied("Habitat's server was ended because it did not answer in time")
        try:
            self._socket.send(request, zmq.NOBLOCK)
            self._await(name, limit_s)
            data = self._socket.recv()
        except zmq.ZMQError as error:
            self.close()
            raise ServerDied(f"the connection to Habitat's server broke ({error}){self._tail()}") from None
        return self._value(name, data)

    def close(self) -> None:
        """Ends the process; twice is fine."""
        self._cleanup()

    def _await(self, name: str, limit_s: float) -> None:
        """Waits until there is a reply."""
        end = time.monotonic() + limit_s
        while not self._socket.poll(_ALIVE_CHECK_MS):
            code = self._process.poll()
            if code is not None:
                message = (
                    f"Habitat's server ended with status {code} while asked for {name}{self._hint() or self._tail()}"
                )
                self.close()
                raise ServerDied(message)
            if time.monotonic() > end:
                self.close()
                raise TimeoutError(
                    f"Habitat's server did not answer {name} within {limit_s:g} s and was ended; give "
                    f"ServerSettings more time if the scene is large{self._tail()}"
                )

    def _value(self, name: str, data: bytes) -> dict:
        try:
            reply = unpack(data)
        except ValueError as error:
            reply = {"error": str(error)}
        if not isinstance(reply, dict) or reply.get("id") != self._count or not isinstance(reply.get("ok"), bool):
            self.close()
            raise RuntimeError(f"Habitat's server gave no proper reply to {name}: {reply!r}"[:500])
        if not reply["ok"]:
            error = reply.get("error")
            kind, text = (error.get("kind"), error.get("text")) if isinstance(error, dict) else ("error", error)
            raise RuntimeError(f"Habitat could not do {name}: {kind}: {text}{self._tail()}")
        if not isinstance(reply.get("value"), dict):
            raise RuntimeError(f"Habitat's server gave {type(reply.get('value')).__name__} for {name}, not a map")
        return reply["value"]

    def _hint(self) -> str:
        """What to install where the server lacked a module."""
        lacking = re.search(r"No module named '([\w.]+)'", self._log())
        if lacking is None:
            return ""
        name = lacking[1].split(".")[0]
        python, package = self._process.args[0], _PACKAGES.get(name, name)
        how = _GUIDE if name == "habitat_sim" else f"run {python} -m pip install {package}"
        return (
            f": {python} has no {name}; {how}, or name another interpreter in {PYTHON_VARIABLE}. It needs habitat_sim, "
            "numpy, pyzmq and msgpack"
        )

    def _tail(self) -> str:
        lines = [line for line in self._log().splitlines() if line.strip()]
        return "\nIts last words:\n  " + "\n  ".join(lines[-_TAIL_LINES:]) if lines else ""

    def _log(self) -> str:
        try:
            return self._log_file.read_text(encoding="utf-8", errors="replace")[-20_000:]
        except FileNotFoundError:
            return ""


def _end(process: subprocess.Popen, door: zmq.Socket, context: zmq.Context) -> None:
    """Holds the socket itself: a context waits forever for one that the garbage collector took unclosed."""
    process.terminate()
    try:
        process.wait(_QUIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    door.close(linger=0)
    context.term()
