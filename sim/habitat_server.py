"""Serves habitat_sim over a local socket, in Habitat's own frame. Runs in Habitat's Python and imports nothing of ours.

Needs Python 3.9 or newer with habitat_sim, numpy, pyzmq and msgpack. World: metres, Y up; a camera looks along its -Z,
its Y is up; quaternions are w, x, y, z. A request is {"id", "call", "args"}, a reply {"id", "ok", "value" or "error"},
both msgpack; arrays travel as type, shape and bytes. Nothing is ever unpickled. docs/habitat.md lists the calls.
"""

from __future__ import annotations

import argparse
import math
import os
import platform

import msgpack
import numpy as np
import zmq

PROTOCOL = 1
MAX_REQUEST_BYTES = 1 << 20
MAX_REPLY_BYTES = 1 << 30

_ARRAY_EXT = 1
_DTYPES = ("|b1", "|u1", "<i4", "<u4", "<f4", "<f8")
_MAX_DIMENSIONS = 4
_MAX_POINTS = 10_000
_PARENT_CHECK_MS = 1000
_NAVMESH_KEYS = (
    "cell_size",
    "cell_height",
    "agent_height",
    "agent_radius",
    "agent_max_climb",
    "agent_max_slope",
    "region_min_size",
)


class BadRequest(ValueError):
    """A message that is not of this protocol, or a value no call takes."""


def pack(value: object) -> bytes:
    """A message as bytes.

    Args:
        value: None, bool, int, float, str, bytes, list, dict with text keys, or numpy array of bool, uint8, int32,
            uint32, float32 or float64.

    Raises:
        TypeError: it holds anything else.
    """
    return msgpack.packb(value, default=_array_out, use_bin_type=True)


def unpack(data: bytes) -> object:
    """The message in some bytes; arrays in it are read-only.

    Raises:
        ValueError: they are no message, or an array in it is malformed.
    """
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=True, ext_hook=_array_in)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise ValueError(f"not a msgpack message of this protocol: {error}") from None


def _array_out(value: object) -> msgpack.ExtType:
    if not isinstance(value, np.ndarray) or value.dtype.str not in _DTYPES:
        kind = f"array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
        raise TypeError(f"a message holds plain values and arrays of {', '.join(_DTYPES)}, got {kind}")
    return msgpack.ExtType(_ARRAY_EXT, msgpack.packb([value.dtype.str, list(value.shape), value.tobytes()]))


def _array_in(code: int, data: bytes) -> np.ndarray:
    if code != _ARRAY_EXT:
        raise ValueError(f"extension type must be {_ARRAY_EXT} (array), got {code}")
    parts = msgpack.unpackb(data, raw=False)
    if not isinstance(parts, list) or len(parts) != 3:
        raise ValueError("an array must be [type, shape, bytes]")
    dtype, shape, content = parts
    if dtype not in _DTYPES:
        raise ValueError(f"array type must be one of {', '.join(_DTYPES)}, got {dtype!r}")
    sizes_ok = isinstance(shape, list) and len(shape) <= _MAX_DIMENSIONS and all(_is_whole(n) and n >= 0 for n in shape)
    if not sizes_ok or not isinstance(content, bytes):
        raise ValueError(f"an array's shape must be at most {_MAX_DIMENSIONS} sizes, its content bytes")
    expected = math.prod(shape) * np.dtype(dtype).itemsize
    if len(content) != expected:
        raise ValueError(f"an array of {dtype} {shape} has {expected} bytes, got {len(content)}")
    return np.frombuffer(content, dtype).reshape(shape)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise BadRequest(f"{name} must be text, got {value!r}")
    return value


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise BadRequest(f"{name} must be true or false, got {value!r}")
    return value


def _size(name: str, value: object) -> int:
    if not _is_whole(value) or not 1 <= value <= 8192:
        raise BadRequest(f"{name} must be a whole number in 1..8192, got {value!r}")
    return value


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise BadRequest(f"{name} must be a finite number, got {value!r}")
    return float(value)


def _vector(length: int):
    def check(name: str, value: object) -> np.ndarray:
        good = isinstance(value, np.ndarray) and value.shape == (length,) and value.dtype == np.float64
        if not good or not np.isfinite(value).all():
            raise BadRequest(f"{name} must be {length} finite float64, got {value!r}"[:300])
        return value

    return check


def _points(name: str, value: object) -> np.ndarray:
    good = isinstance(value, np.ndarray) and value.ndim == 2 and value.shape[1] == 3 and value.dtype == np.float64
    if not good or len(value) > _MAX_POINTS or not np.isfinite(value).all():
        raise BadRequest(f"{name} must be at most {_MAX_POINTS} points of 3 finite float64, got {value!r}"[:300])
    return value


def _navmesh_settings(name: str, value: object) -> dict:
    if not isinstance(value, dict) or set(value) != set(_NAVMESH_KEYS):
        raise BadRequest(f"{name} must have exactly {', '.join(_NAVMESH_KEYS)}, got {value!r}"[:500])
    return {key: _number(f"{name}.{key}", value[key]) for key in _NAVMESH_KEYS}


# What may be asked, with a check for every argument; the method of the same name of the backend answers.
_CALLS = {
    "load": {
        "scene": _text,
        "width_px": _size,
        "height_px": _size,
        "hfov_deg": _number,
        "background": _vector(3),
        "navmesh": _navmesh_settings,
    },
    "render": {"position": _vector(3), "rotation_wxyz": _vector(4)},
    "snap": {"points": _points},
    "navigable": {"points": _points, "max_y_delta": _number},
    "move": {"start": _vector(3), "end": _vector(3), "slide": _flag},
    "path": {"start": _vector(3), "end": _vector(3)},
    "islands": {},
    "objects": {},
}


def answer(data: bytes, backend: object) -> dict:
    """The reply to a request; whatever goes wrong becomes an error reply, so that the client learns of it."""
    number = -1
    try:
        if len(data) > MAX_REQUEST_BYTES:
            raise BadRequest(f"a request has at most {MAX_REQUEST_BYTES} bytes, got {len(data)}")
        request = unpack(data)
        if not isinstance(request, dict) or set(request) != {"id", "call", "args"} or not _is_whole(request["id"]):
            raise BadRequest("a request must be a map of id (whole number), call and args")
        number = request["id"]
        value = _called(request["call"], request["args"], backend)
    except ValueError as error:
        return {"id": number, "ok": False, "error": {"kind": "bad_request", "text": str(error)}}
    except Exception as error:  # the outermost loop: habitat_sim raises whatever it likes
        return {"id": number, "ok": False, "error": {"kind": type(error).__name__, "text": str(error)}}
    return {"id": number, "ok": True, "value": value}


def _called(name: object, args: object, backend: object) -> dict:
    if not isinstance(args, dict):
        raise BadRequest(f"args must be a map, got {type(args).__name__}")
    if name == "hello":
        return {"protocol": PROTOCOL, "backend": backend.name, "python": platform.python_version(), "pid": os.getpid()}
    if not isinstance(name, str) or name not in _CALLS:
        raise BadRequest(f"unknown call {name!r}; the calls are hello, {', '.join(_CALLS)}"[:500])
    checks = _CALLS[name]
    if set(args) != set(checks):
        raise BadRequest(f"{name} takes {', '.join(checks) or 'nothing'}, got {', '.join(map(str, args)) or 'nothing'}")
    checked = {key: check(f"{name}: {key}", args[key]) for key, check in checks.items()}
    return getattr(backend, name)(**checked)


def serve(endpoint: str, backend: object) -> None:
    """Answers requests until the process that started this one is gone.

    Args:
        endpoint: where to listen, such as ipc:///path/to/socket.
        backend: has a `name` and a method for each call.
    """
    parent = os.getppid()
    with zmq.Context() as context, context.socket(zmq.REP) as door:
        door.setsockopt(zmq.LINGER, 0)
        # Far larger messages do not even get in: zmq drops who sends them.
        door.setsockopt(zmq.MAXMSGSIZE, 16 * MAX_REQUEST_BYTES)
        door.bind(endpoint)
        while os.getppid() == parent:
            if not door.poll(_PARENT_CHECK_MS):
                continue
            parts = door.recv_multipart()
            door.send(pack(answer(parts[0] if len(parts) == 1 else b"", backend)))


class HabitatBackend:
    """habitat_sim behind the calls of the protocol: one simulator, no robot; every call says where it is about."""

    def __init__(self):
        import habitat_sim  # only here: clients read this file for its messages
        from habitat_sim.utils.common import quat_from_coeffs

        self._habitat, self._quaternion = habitat_sim, quat_from_coeffs
        self._sim = None
        self.name = "habitat_sim " + str(getattr(habitat_sim, "__version__", "of unknown version"))

    def load(self, scene: str, width_px: int, height_px: int, hfov_deg: float, background, navmesh: dict) -> dict:
        """Opens a scene and computes its walkable area."""
        if self._sim is not None:
            self._sim.close()
            self._sim = None
        habitat = self._habitat
        world = habitat.SimulatorConfiguration()
        world.scene_id = scene
        world.scene_dataset_config_file = "default"
        world.gpu_device_id = -1  # the CPU; any other number ends the process where there is no such CUDA device
        world.enable_physics = False
        world.random_seed = 0
        robot = habitat.agent.AgentConfiguration()
        robot.height, robot.radius = navmesh["agent_height"], navmesh["agent_radius"]
        robot.sensor_specifications = [
            self._sensor(kind, width_px, height_px, hfov_deg, background) for kind in ("COLOR", "DEPTH", "SEMANTIC")
        ]
        self._sim = habitat.Simulator(habitat.Configuration(world, [robot]))
        settings = habitat.NavMeshSettings()
        settings.set_defaults()
        for key, value in navmesh.items():
            setattr(settings, key, value)
        walkable = bool(self._sim.recompute_navmesh(self._sim.pathfinder, settings))
        return {"walkable": walkable and self._sim.pathfinder.num_islands > 0}

    def render(self, position, rotation_wxyz) -> dict:
        """What a camera sees: rgb [H, W, 3], planar depth in metres, 0 where nothing is hit, and instance ids."""
        w, x, y, z = (float(value) for value in rotation_wxyz)
        state = self._habitat.AgentState()
        state.position = np.asarray(position, np.float32)
        state.rotation = self._quaternion(np.array([x, y, z, w]))
        self._loaded().get_agent(0).set_state(state, reset_sensors=True, infer_sensor_states=True)
        seen = self._sim.get_sensor_observations()
        return {
            "rgb": np.ascontiguousarray(seen["COLOR"][..., :3], np.uint8),
            "depth": np.ascontiguousarray(seen["DEPTH"], np.float32),
            "ids": np.ascontiguousarray(seen["SEMANTIC"], np.uint32),
        }

    def snap(self, points) -> dict:
        """The nearest walkable points, NaN where there is none near, and the islands they are on, -1 for none."""
        finder = self._loaded().pathfinder
        snapped = [_floats(finder.snap_point(_single(point))) for point in points]
        islands = [finder.get_island(_single(point)) for point in points]
        return {"points": np.array(snapped, np.float64).reshape(-1, 3), "islands": np.array(islands, np.int32)}

    def navigable(self, points, max_y_delta: float) -> dict:
        """Whether one can stand at points."""
        finder = self._loaded().pathfinder
        return {"navigable": np.array([finder.is_navigable(_single(p), max_y_delta) for p in points], bool)}

    def move(self, start, end, slide: bool) -> dict:
        """Where a straight move ends, as Habitat's own steps end."""
        finder = self._loaded().pathfinder
        step = finder.try_step if slide else finder.try_step_no_sliding
        return {"position": np.array(_floats(step(_single(start), _single(end))))}

    def path(self, start, end) -> dict:
        """The shortest path: whether there is one, its length and its corners."""
        query = self._habitat.ShortestPath()
        query.requested_start, query.requested_end = _single(start), _single(end)
        found = bool(self._loaded().pathfinder.find_path(query))
        points = [_floats(point) for point in query.points] if found else []
        distance = float(query.geodesic_distance) if found else 0.0
        return {"found": found, "distance": distance, "points": np.array(points, np.float64).reshape(-1, 3)}

    def islands(self) -> dict:
        """Triangles [T, 3, 3] of every connected walkable area."""
        finder, triangles = self._loaded().pathfinder, []
        for number in range(finder.num_islands):
            corners = np.array([_floats(corner) for corner in finder.build_navmesh_vertices(number)], np.float64)
            order = np.array(finder.build_navmesh_vertex_indices(number), np.int64)
            triangles.append(corners.reshape(-1, 3)[order].reshape(-1, 3, 3))
        return {"triangles": triangles}

    def objects(self) -> dict:
        """What the scene's own annotation says is in it; rotations are w, x, y, z."""
        found = []
        for item in self._loaded().semantic_scene.objects:
            if item is None or item.category is None:
                continue
            x, y, z, w = (float(item.obb.rotation[i]) for i in range(4))
            found.append(
                {
                    "id": int(item.semantic_id),
                    "category": str(item.category.name()),
                    "center": _floats(item.obb.center),
                    "half_extents": _floats(item.obb.half_extents),
                    "rotation_wxyz": [w, x, y, z],
                }
            )
        return {"objects": found}

    def _loaded(self):
        if self._sim is None:
            raise BadRequest("no scene is loaded; call load first")
        return self._sim

    def _sensor(self, kind: str, width_px: int, height_px: int, hfov_deg: float, background):
        spec = self._habitat.CameraSensorSpec()
        spec.uuid = kind
        spec.sensor_type = getattr(self._habitat.SensorType, kind)
        # Magnum's vectors take no lists; their types are at hand without importing it.
        spec.resolution = type(spec.resolution)(height_px, width_px)
        spec.hfov = hfov_deg
        spec.position = type(spec.position)(0.0, 0.0, 0.0)  # the agent stands where the camera is; it does not walk
        spec.channels = 4 if kind == "COLOR" else 1
        if kind == "COLOR":
            levels = [float(level) / 255 for level in background]
            spec.clear_color = type(spec.clear_color)(*levels, 1.0)
        return spec


def _single(point) -> np.ndarray:
    return np.asarray(point, np.float32)


def _floats(vector) -> list:
    return [float(vector[0]), float(vector[1]), float(vector[2])]


def main() -> None:
    """Serves habitat_sim at the endpoint on the command line."""
    parser = argparse.ArgumentParser(description="Serves habitat_sim over a local socket.")
    parser.add_argument("--endpoint", required=True, help="where to listen, such as ipc:///path/to/socket")
    serve(parser.parse_args().endpoint, HabitatBackend())


if __name__ == "__main__":
    main()
