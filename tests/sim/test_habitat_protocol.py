"""Messages of Habitat's server: what goes through unchanged and what is refused; no process is started here."""

from __future__ import annotations

import ast
import datetime
import pickle
import sys
from pathlib import Path

import msgpack
import numpy as np
import pytest

from sim.habitat_server import MAX_REQUEST_BYTES, PROTOCOL, BadRequest, answer, pack, unpack

SERVER = Path(__file__).resolve().parents[2] / "sim" / "habitat_server.py"


class Floor:
    """A backend with a floor at height 0 and nothing else."""

    name = "floor"

    def snap(self, points):
        return {"points": points * [1, 0, 1], "islands": np.zeros(len(points), np.int32)}

    def islands(self):
        raise KeyError("no navmesh")

    def objects(self):
        raise BadRequest("no scene is loaded; call load first")


def asked(call="snap", number=3, **args) -> dict:
    return unpack(pack(answer(pack({"id": number, "call": call, "args": args}), Floor())))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "uint32", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), (0, 3), (7,), (2, 3, 4)])
def test_arrays_go_through(dtype, shape):
    array = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 100, shape).astype(dtype)
    back = unpack(pack({"a": array.T, "b": [1, None, "x", 2.5, True]}))
    assert back["a"].dtype == array.dtype
    np.testing.assert_array_equal(back["a"], array.T)
    assert back["b"] == [1, None, "x", 2.5, True]
    assert not back["a"].flags.writeable


def test_nan_and_infinity_go_through():
    np.testing.assert_array_equal(unpack(pack(np.array([np.nan, np.inf]))), [np.nan, np.inf])


@pytest.mark.parametrize(
    "value",
    [np.array([object()]), np.array(["text"]), np.zeros(2, np.complex128), np.zeros(2, ">f8"), {1, 2}, np.int64(3)],
)
def test_other_values_are_not_sent(value):
    with pytest.raises(TypeError, match="a message holds plain values"):
        pack({"a": value})


def array_message(*parts) -> bytes:
    return msgpack.packb(msgpack.ExtType(1, msgpack.packb(list(parts))))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        pickle.dumps({"id": 1}),
        pickle.dumps(np.zeros(3)),
        msgpack.packb({1: 2}),
        pack({"a": 1}) + b"\x00",
        pack({"a": "long text"})[:-3],
        msgpack.packb(msgpack.ExtType(5, b"abc")),
        array_message("|O", [1], b"12345678"),
        array_message("<f8", [2], b"12345678"),
        array_message("<f8", [-1], b""),
        array_message("<f8", [True], b"12345678"),
        array_message("<f8", [1] * 5, b"12345678"),
        array_message("<f8", [2**40, 2**40], b""),
        array_message("<f8", [1], "a string"),
        array_message("<f8", [1]),
        array_message(["<f8"], [1], b"12345678"),
        msgpack.packb(msgpack.ExtType(1, b"\xc1")),
        b"\x91" * 5000,
    ],
)
def test_what_is_no_message_is_refused(data):
    with pytest.raises(ValueError, match="not a msgpack message of this protocol"):
        unpack(data)
    reply = answer(data, Floor())
    assert (reply["id"], reply["ok"], reply["error"]["kind"]) == (-1, False, "bad_request")


def test_a_pickle_inside_a_message_stays_bytes():
    class Trap:
        def __reduce__(self):
            return (sys.exit, ("unpickled",))

    bomb = pickle.dumps(Trap())
    assert unpack(pack({"a": bomb})) == {"a": bomb}
    assert asked("snap", points=bomb)["error"]["kind"] == "bad_request"


def test_nothing_here_can_unpickle():
    for name in ("habitat_server.py", "habitat_client.py", "habitat_env.py"):
        tree = ast.parse(SERVER.with_name(name).read_text())
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert not {"pickle", "eval", "exec", "marshal", "shelve"} & names
        assert not {"recv_pyobj", "send_pyobj"} & attributes


def test_a_call_is_answered():
    reply = asked(points=np.array([[1.0, 2.0, 3.0]]))
    assert (reply["id"], reply["ok"]) == (3, True)
    np.testing.assert_array_equal(reply["value"]["points"], [[1, 0, 3]])
    hello = asked("hello", 9)
    assert (hello["id"], hello["value"]["protocol"], hello["value"]["backend"]) == (9, PROTOCOL, "floor")


def test_too_large_a_request_is_refused():
    reply = answer(b"\x00" * (MAX_REQUEST_BYTES + 1), Floor())
    assert "at most" in reply["error"]["text"]
    reply = asked(points=np.zeros((10_001, 3)))
    assert "at most 10000 points" in reply["error"]["text"]


@pytest.mark.parametrize(
    ("call", "args", "message"),
    [
        ("fly", {}, "unknown call 'fly'; the calls are hello, load, render"),
        ("_called", {}, "unknown call"),
        ("__init__", {}, "unknown call"),
        (None, {}, "unknown call"),
        ("snap", {}, "snap takes points, got nothing"),
        ("snap", {"points": np.zeros((1, 3)), "extra": 1}, "snap takes points, got points, extra"),
        ("snap", {"points": [[1.0, 2.0, 3.0]]}, "must be at most 10000 points"),
        ("snap", {"points": np.zeros((1, 2))}, "must be at most 10000 points"),
        ("snap", {"points": np.zeros((1, 3), np.float32)}, "must be at most 10000 points"),
        ("snap", {"points": np.full((1, 3), np.nan)}, "must be at most 10000 points"),
        ("move", {"start": np.zeros(3), "end": np.zeros(3), "slide": 1}, "slide must be true or false"),
        ("path", {"start": np.zeros(3), "end": np.zeros(2)}, "path: end must be 3 finite float64"),
        ("render", {"position": np.zeros(3), "rotation_wxyz": np.full(4, np.inf)}, "must be 4 finite"),
        ("navigable", {"points": np.zeros((1, 3)), "max_y_delta": "1"}, "must be a finite number"),
        ("islands", {}, "no navmesh"),
        ("objects", {}, "no scene is loaded"),
    ],
)
def test_malformed_calls_are_errors_and_not_crashes(call, args, message):
    reply = asked(call, 4, **args)
    assert (reply["id"], reply["ok"]) == (4, False)
    assert message in reply["error"]["text"]


LOAD = {
    "scene": "/a.glb",
    "width_px": 64,
    "height_px": 48,
    "hfov_deg": 90.0,
    "background": np.zeros(3),
    "navmesh": {
        "cell_size": 0.05,
        "cell_height": 0.2,
        "agent_height": 1.5,
        "agent_radius": 0.2,
        "agent_max_climb": 0.2,
        "agent_max_slope": 45.0,
        "region_min_size": 20.0,
    },
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scene": ""}, "scene must be text"),
        ({"width_px": 0}, "in 1..8192"),
        ({"height_px": 64.0}, "in 1..8192"),
        ({"hfov_deg": np.nan}, "finite number"),
        ({"navmesh": {"cell_size": 1.0}}, "must have exactly"),
        ({"navmesh": LOAD["navmesh"] | {"agent_radius": None}}, "navmesh.agent_radius must be a finite number"),
    ],
)
def test_malformed_scenes_are_refused(change, message):
    assert message in asked("load", **LOAD | change)["error"]["text"]


@pytest.mark.parametrize(
    "request_", [[], {"id": 1}, {"id": 1, "call": "snap", "args": []}, {"id": "1", "call": "hello", "args": {}}]
)
def test_requests_must_have_their_form(request_):
    assert answer(pack(request_), Floor())["error"]["kind"] == "bad_request"


def test_a_timestamp_is_no_argument():
    stamp = msgpack.packb(
        {"id": 1, "call": "snap", "args": {"points": datetime.datetime.now(datetime.UTC)}}, datetime=True
    )
    assert answer(stamp, Floor())["error"]["kind"] == "bad_request"


@pytest.mark.parametrize("path", [SERVER, Path(__file__).with_name("habitat_replay.py")], ids=lambda path: path.name)
def test_server_is_python_3_9_and_imports_nothing_of_ours(path):
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(node.module.split(".")[0])
    others = imported - set(sys.stdlib_module_names)
    assert others <= {"habitat_sim", "habitat_sim_that_nobody_has", "numpy", "zmq", "msgpack", "PIL"}
    # what 3.9 does not have but parses
    calls = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    keywords = {word.arg for node in ast.walk(tree) if isinstance(node, ast.Call) for word in node.keywords}
    assert "zip" not in calls or "strict" not in keywords
    assert not {"slots", "kw_only"} & keywords
    unions = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)]
    assert unions == []
