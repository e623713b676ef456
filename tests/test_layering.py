"""Who may import whom: reads every source file and compares its imports with the house's table."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# folder in the repository -> import name
PACKAGES = {
    "vlm3r_core": "vlm3r_core",
    "ros2_ws/src/vlm3r_ros": "vlm3r_ros",
    "training": "training",
    "sim": "sim",
}
OURS = ("vlm3r_core", "vlm3r_ros", "training", "sim")
TORCH = ("torch", "torchvision", "transformers", "safetensors")
ROS = ("rclpy", "vlm3r_interfaces", "launch", "launch_ros", "ament_index_python")
FILES_CLOCK_NETWORK = (
    "pathlib os io shutil tempfile glob time datetime sched socket ssl urllib http ftplib requests subprocess"
).split()
STDLIB = tuple(sys.stdlib_module_names)


@dataclass(frozen=True)
class Rule:
    """What the modules under one name may import.

    Args:
        module: import name; the rule holds for it and everything below, the longest matching name wins.
        only: if given, names outside the standard library that may be imported; nothing else may.
        never: names that must not be imported.
    """

    module: str
    only: tuple[str, ...] | None = None
    never: tuple[str, ...] = ()


NOT_CORE = ("vlm3r_ros", "training", "sim", "habitat_sim", *ROS)
TRUTH = ("box", "distances", "graph", "items", "metadata", "relations", "room", "sampling", "scoring", "tasks")
PLAIN = ("numpy", "vlm3r_core.types", "vlm3r_core.config")
RULES = (
    Rule("vlm3r_core", never=NOT_CORE),
    Rule("vlm3r_core.types", only=PLAIN),
    Rule("vlm3r_core.config", only=PLAIN),
    Rule("vlm3r_core.files", only=()),
    Rule("vlm3r_core.quantity", only=PLAIN),
    Rule(
        "vlm3r_core.scene",
        only=(*PLAIN, "vlm3r_core.files", "vlm3r_core.quantity", "vlm3r_core.scene", "scipy", "shapely", "tqdm"),
    ),
    Rule(
        "vlm3r_core.model",
        only=("torch", "transformers", "vlm3r_core.types", "vlm3r_core.config", "vlm3r_core.model"),
        never=tuple(FILES_CLOCK_NETWORK),
    ),
    # the wording of questions is the engine's business, the truth about a scene is not
    Rule("vlm3r_core.stream", never=(*NOT_CORE, *(f"vlm3r_core.scene.{name}" for name in TRUTH))),
    Rule("vlm3r_ros", never=(*TORCH, "training", "sim", "habitat_sim")),
    Rule("training", never=("vlm3r_ros", "sim", "habitat_sim", *ROS)),
    # what needs the simulator stays in these
    *(
        Rule(f"training.scans.simulated{part}", never=("vlm3r_ros", "habitat_sim", *ROS))
        for part in ("", "_clips", "_looks", "_routes", "_settings", "_sight")
    ),
    Rule("sim", never=("training", "vlm3r_ros", "habitat_sim", *ROS)),
    Rule("sim.ros_bridge", never=("training", "vlm3r_ros", "habitat_sim")),
    Rule("sim.habitat_server", never=(*OURS, *ROS)),
)


def under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


@dataclass(frozen=True)
class Module:
    """One source file: its import name, its syntax tree and everything it imports, wherever in the file."""

    name: str
    path: str
    is_package: bool
    tree: ast.Module

    def imports(self) -> list[tuple[str, int]]:
        """(imported name, line) for import statements and for import_module or __import__ of a literal."""
        found = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found += [(alias.name, node.lineno) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                found += [(f"{self._base(node)}.{alias.name}".strip("."), node.lineno) for alias in node.names]
            elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                function = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if function in ("import_module", "__import__"):
                    found.append((str(node.args[0].value), node.lineno))
        return found

    def _base(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        parts = parts[: len(parts) - node.level + self.is_package]
        return ".".join([*parts, node.module] if node.module else parts)


def read_modules(root: Path) -> list[Module]:
    modules = []
    for folder, package in PACKAGES.items():
        for path in sorted((root / folder).rglob("*.py")):
            parts = [package, *path.relative_to(root / folder).with_suffix("").parts]
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            shown = str(path.relative_to(root))
            modules.append(Module(name, shown, is_package, ast.parse(path.read_text(), shown)))
    return modules


def rule_for(module: Module) -> Rule:
    return max((rule for rule in RULES if under(module.name, rule.module)), key=lambda rule: len(rule.module))


def forbidden_imports(module: Module) -> list[str]:
    rule, found = rule_for(module), []
    for name, line in module.imports():
        banned = next((never for never in rule.never if under(name, never)), None)
        outside = rule.only is not None and not any(under(name, allowed) for allowed in (*rule.only, *STDLIB))
        if banned or outside:
            found.append(f"{module.path}:{line}: {module.name} must not import {name}")
    return found


def forbidden_calls(module: Module) -> list[str]:
    """Opening files inside the network; editing the import path anywhere."""
    found = []
    for node in ast.walk(module.tree):
        opens = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "open"
        if opens and under(module.name, "vlm3r_core.model"):
            found.append(f"{module.path}:{node.lineno}: {module.name} must not open files")
    return found + path_edits(module.tree, module.path)


def path_edits(tree: ast.Module, path: str) -> list[str]:
    """Every mention of sys.path or site.addsitedir."""
    found = []
    for node in ast.walk(tree):
        owner = getattr(getattr(node, "value", None), "id", "")
        attribute = isinstance(node, ast.Attribute) and (owner, node.attr) in (("sys", "path"), ("site", "addsitedir"))
        imported = isinstance(node, ast.ImportFrom) and (node.module, node.names[0].name) == ("sys", "path")
        if attribute or imported:
            found.append(f"{path}:{node.lineno}: must not edit sys.path")
    return found


def distant_relative_imports(module: Module) -> list[str]:
    nodes = (node for node in ast.walk(module.tree) if isinstance(node, ast.ImportFrom))
    return [f"{module.path}:{n.lineno}: import across folders must be absolute" for n in nodes if n.level > 1]


def folder_of(name: str, packages: set[str]) -> str:
    """The node of the folder graph: a folder, or the file itself for a package's top files."""
    folder = name if name in packages else name.rpartition(".")[0]
    return name if "." not in folder else folder


def folder_cycles(modules: list[Module]) -> list[str]:
    known = {module.name for module in modules}
    packages = {module.name for module in modules if module.is_package}
    graph: dict[str, set[str]] = {}
    for module in modules:
        here = folder_of(module.name, packages)
        edges = graph.setdefault(here, set())
        for name, _ in module.imports():
            target = name if name in known else name.rpartition(".")[0]
            if target in known and folder_of(target, packages) != here:
                edges.add(folder_of(target, packages))
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [f"import cycle: {' -> '.join(reversed(error.args[1]))}"]
    return []


def violations(root: Path) -> list[str]:
    """Every breach of the table under a repository root, one line each."""
    modules = read_modules(root)
    found = folder_cycles(modules)
    for module in modules:
        found += forbidden_imports(module) + forbidden_calls(module) + distant_relative_imports(module)
    return found


def test_repository_keeps_the_table():
    assert violations(ROOT) == []


def test_every_package_was_read():
    names = {module.name.split(".")[0] for module in read_modules(ROOT)}
    assert {"vlm3r_core", "vlm3r_ros"} <= names


@pytest.mark.parametrize("folder", ["tests", "benchmarks", "launch"])
def test_nothing_else_edits_the_import_path(folder):
    found = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        shown = str(path.relative_to(ROOT))
        found += path_edits(ast.parse(path.read_text(), shown), shown)
    assert found == []


@pytest.mark.parametrize("name", ["vlm3r_core", "vlm3r_core.types", "vlm3r_core.config", "vlm3r_core.scene"])
def test_import_is_free_of_torch(name):
    code = f"import sys, {name}; print([n for n in ('torch', 'transformers') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


PLANTED = [
    ("vlm3r_core/types.py", "import torch", "vlm3r_core.types must not import torch"),
    ("vlm3r_core/config.py", "from torch.nn import Module", "must not import torch.nn.Module"),
    ("vlm3r_core/scene/graph.py", "def f():\n    import transformers", "must not import transformers"),
    ("vlm3r_core/scene/graph.py", "from vlm3r_core import loading", "must not import vlm3r_core.loading"),
    ("vlm3r_core/model/cut3r.py", "from vlm3r_core.stream import engine", "must not import vlm3r_core.stream.engine"),
    ("vlm3r_core/model/cut3r.py", "from pathlib import Path", "must not import pathlib.Path"),
    ("vlm3r_core/model/cut3r.py", "import time", "must not import time"),
    ("vlm3r_core/model/cut3r.py", "open('weights')", "must not open files"),
    ("vlm3r_core/stream/worker.py", "import rclpy", "must not import rclpy"),
    (
        "vlm3r_core/stream/engine.py",
        "from vlm3r_core.scene.graph import SceneGraph",
        "must not import vlm3r_core.scene",
    ),
    ("vlm3r_core/clip.py", "from vlm3r_ros import convert", "must not import vlm3r_ros.convert"),
    ("vlm3r_core/clip.py", "import importlib\nimportlib.import_module('sim.env')", "must not import sim.env"),
    ("ros2_ws/src/vlm3r_ros/convert.py", "import torch", "vlm3r_ros.convert must not import torch"),
    ("ros2_ws/src/vlm3r_ros/convert.py", "import training.data", "must not import training.data"),
    ("training/data.py", "from sim import env", "training.data must not import sim.env"),
    ("training/data.py", "import rclpy.node", "must not import rclpy.node"),
    ("sim/agent.py", "import rclpy", "sim.agent must not import rclpy"),
    ("sim/habitat_env.py", "import habitat_sim", "must not import habitat_sim"),
    ("sim/ros_bridge/client.py", "from vlm3r_ros import convert", "must not import vlm3r_ros.convert"),
    ("sim/habitat_server.py", "from vlm3r_core import types", "must not import vlm3r_core.types"),
    ("vlm3r_core/clip.py", "import sys\nsys.path.insert(0, '.')", "must not edit sys.path"),
    ("vlm3r_core/clip.py", "from sys import path", "must not edit sys.path"),
    ("vlm3r_core/stream/worker.py", "from ..model import cut3r", "import across folders must be absolute"),
]


@pytest.mark.parametrize(("path", "source", "expected"), PLANTED)
def test_planted_violation_is_found(tmp_path, path, source, expected):
    planted = tmp_path / path
    planted.parent.mkdir(parents=True)
    planted.write_text(source)
    found = violations(tmp_path)
    assert any(expected in line for line in found), found


ALLOWED = [
    ("vlm3r_core/scene/graph.py", "import json\nimport numpy as np\nfrom scipy import spatial"),
    ("vlm3r_core/model/cut3r.py", "import torch\nfrom vlm3r_core.config import Cut3rConfig\nfrom . import rope"),
    (
        "vlm3r_core/stream/engine.py",
        "import time\nfrom vlm3r_core.model import vlm3r\nfrom vlm3r_core import answer",
    ),
    ("ros2_ws/src/vlm3r_ros/node.py", "import rclpy\nimport vlm3r_core\nfrom vlm3r_interfaces.srv import AskSpatial"),
    ("training/scans/simulated.py", "from sim import rooms"),
    ("training/scans/simulated_clips.py", "from sim import rooms"),
    ("training/scans/simulated_sight.py", "from sim import env"),
    ("sim/ros_bridge/client.py", "import rclpy\nfrom vlm3r_core.types import Frame"),
    ("sim/habitat_server.py", "import habitat_sim\nimport socket"),
]


@pytest.mark.parametrize(("path", "source"), ALLOWED)
def test_what_the_table_allows_passes(tmp_path, path, source):
    planted = tmp_path / path
    planted.parent.mkdir(parents=True)
    planted.write_text(source)
    assert violations(tmp_path) == []


def test_planted_cycle_between_folders_is_found(tmp_path):
    sources = {
        "vlm3r_core/model/net.py": "import vlm3r_core.config",
        "vlm3r_core/stream/engine.py": "def late():\n    from vlm3r_core import loading",
        "vlm3r_core/loading.py": "from vlm3r_core.stream.engine import late",
        "vlm3r_core/config.py": "",
    }
    for path, source in sources.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(source)
    assert any("import cycle" in line and "vlm3r_core.loading" in line for line in violations(tmp_path))
