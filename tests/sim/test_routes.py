"""Route-plan questions: that their words are true, told by bearings computed here, and that sets keep their balance."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import trimesh
from worlds import box, painted, room

from sim.mesh_env import MeshEnv, WorldSettings
from sim.route import check as checker
from sim.route.check import check_route
from sim.route.draft import Draft, Stop, shape_flaw
from sim.route.geometry import is_straight, turn_between, turn_kind
from sim.route.item import read_routes, route_from_json, route_to_json, write_routes
from sim.route.landmarks import Landmark, Sight, distances, landmarks_of
from sim.route.picture import route_picture
from sim.route.plan import plan_slots
from sim.route.settings import RouteSettings
from sim.routes import main, make_route_set, make_routes
from sim.world.annotation import plain_graph
from sim.worlds import open_env, world_specs
from vlm3r_core.scene.box import OrientedBox
from vlm3r_core.scene.graph import SceneObject, count_categories
from vlm3r_core.scene.metadata import write_metadata
from vlm3r_core.scene.questions import TURN_TEXTS, route_question
from vlm3r_core.types import RouteStepKind

LEFT, RIGHT, BACK = RouteStepKind.TURN_LEFT, RouteStepKind.TURN_RIGHT, RouteStepKind.TURN_BACK
SETTINGS = RouteSettings(standing_points=800, patience=200)
# A hall of 9 x 8 m: name, low corner, high corner.
HALL = (
    ("sofa", (0.2, 3.0, 0), (1.0, 5.0, 0.8)),
    ("tv", (8.6, 3.4, 0.4), (8.8, 4.6, 1.2)),
    ("bed", (3.5, 0.2, 0), (5.5, 1.8, 0.6)),
    ("table", (3.9, 3.6, 0), (4.9, 4.4, 0.7)),
    ("refrigerator", (4.0, 7.2, 0), (4.8, 7.8, 1.8)),
    ("plant", (7.9, 7.0, 0), (8.5, 7.6, 1.2)),
    ("bathtub", (0.3, 0.3, 0), (1.9, 1.0, 0.6)),
    ("chair", (7.8, 2.4, 0), (8.3, 2.9, 0.9)),
    ("chair", (0.4, 7.0, 0), (0.9, 7.5, 0.9)),
)
# A wall that leaves the south of the hall behind it, but for a door at its eastern end.
WALL = box([0, 2.2, 0], [7.0, 2.3, 2.5])


def hall(things=HALL, *, wall: bool = False) -> tuple[dict[str, trimesh.Trimesh], tuple[SceneObject, ...]]:
    parts = {f"thing {n}": painted(box(low, high), (20 * n, 90, 200)) for n, (_, low, high) in enumerate(things, 1)}
    objects = tuple(SceneObject(name, OrientedBox.aligned(*ends), n) for n, (name, *ends) in enumerate(things, 1))
    return parts | ({"inner wall": painted(WALL.copy(), (80, 80, 80))} if wall else {}), objects


def world(things=HALL, *, wall: bool = False, scene_id: str = "hall") -> MeshEnv:
    parts, objects = hall(things, wall=wall)
    mesh = room(9.0, 8.0, **parts)
    numbers = [int(name.removeprefix("thing ")) if name.startswith("thing ") else 0 for name in mesh.parts]
    ids = np.array(numbers, np.int32)[mesh.part_of_face]
    return MeshEnv(scene_id, mesh, ids, plain_graph(scene_id, objects, 0.0, mesh), WorldSettings())


@pytest.fixture(scope="module")
def env():
    return world()


@pytest.fixture(scope="module")
def routes(env):
    return make_routes(env, 24, 3, SETTINGS, progress=False)


@pytest.fixture(scope="module")
def hall_file(tmp_path_factory):
    """The hall as a scan: a mesh file and a metadata file beside it."""
    folder = tmp_path_factory.mktemp("worlds")
    parts, objects = hall()
    walls = [box([0, 0, -0.1], [9, 8, 0]), box([-0.1, 0, 0], [0, 8, 2.5]), box([9, 0, 0], [9.1, 8, 2.5])]
    trimesh.util.concatenate([trimesh.Trimesh(p.vertices, p.faces) for p in (*walls, *parts.values())]).export(
        folder / "hall.ply"
    )
    graph = plain_graph("hall", objects, 72.0, room())
    write_metadata([graph], folder / "hall_metadata.json")
    return folder / "hall.ply"


def compass_deg(x: float, y: float, to) -> float:
    return math.degrees(math.atan2(to[1] - y, to[0] - x))


def wrapped(degrees: float) -> float:
    return (degrees + 180) % 360 - 180


# ---- angles and ways


@pytest.mark.parametrize(
    ("degrees", "kind"),
    [(0, "FORWARD"), (19, "FORWARD"), (-21, None), (39, None), (41, LEFT), (-41, RIGHT), (124, LEFT), (-126, None),
     (144, None), (146, BACK), (-180, BACK)],
)  # fmt: skip
def test_turns_have_names_away_from_the_limits(degrees, kind):
    assert turn_kind(math.radians(degrees), RouteSettings()) == kind


def test_turns_are_left_positive_and_seen_from_above():
    east, north = np.array([1.0, 0.0, 5.0]), np.array([0.0, 2.0, -3.0])
    assert turn_between(east, north) == pytest.approx(math.pi / 2)
    assert turn_between(north, east) == pytest.approx(-math.pi / 2)


def test_small_bends_are_straight():
    way = np.array([[0, 0, 0], [2, 0.15, 0], [4, 0, 0.0]])
    assert is_straight(way, 0.2)
    assert not is_straight(way, 0.1)
    assert not is_straight(np.array([[0, 0, 0], [-1, 0, 0], [4, 0, 0.0]]), 0.5)


# ---- landmarks


def test_landmarks_are_single_or_told_apart_by_a_single_one(env):
    names = {landmark.name: landmark.object_id for landmark in landmarks_of(env.scene_graph(), SETTINGS)}
    assert names["sofa"] == 1
    assert "chair" not in names
    assert names["chair closest to the tv"] == 8
    assert 9 not in names.values()  # nothing single beside the other chair
    assert len(landmarks_of(env.scene_graph(), replace(SETTINGS, neighbour_m=0.0))) == 7


def test_landmarks_leave_out_what_could_be_mistaken_missed_or_not_looked_for():
    boxed = OrientedBox.aligned([0, 0, 0], [1, 1, 1])
    small = OrientedBox.aligned([0, 0, 0], [0.1, 0.1, 0.2])
    objects = (
        SceneObject("door", boxed, 1),
        SceneObject("folding door", boxed, 2),
        SceneObject("folding door", boxed, 3),
        SceneObject("cup", small, 4),
        SceneObject("bench", boxed, None),
        SceneObject("tv", boxed, 6),
        SceneObject("tv stand", boxed, 7),
    )
    graph = plain_graph("s", objects, 0.0, room())
    assert count_categories(objects) == dict(graph.counts)
    assert [landmark.name for landmark in landmarks_of(graph, SETTINGS)] == ["tv", "tv stand"]


def test_two_things_about_as_near_to_a_single_one_are_not_told_apart():
    chairs = (("chair", (7.8, 2.4, 0), (8.3, 2.9, 0.9)), ("chair", (7.8, 5.2, 0), (8.3, 5.7, 0.9)))
    names = [landmark.name for landmark in landmarks_of(world((*HALL[:2], *chairs)).scene_graph(), SETTINGS)]
    assert names == ["sofa", "tv"]


def test_distances_are_to_the_turned_box_on_this_storey():
    c = math.sqrt(0.5)
    turned = OrientedBox([0, 0, 0.5], [2, 2, 1], [[c, -c, 0], [c, c, 0], [0, 0, 1]])
    away = distances(np.array([[2.0, 0, 0], [1, 1, 0], [0, 0, 0], [2.0, 0, 3]]), Landmark("rug", 1, turned))
    np.testing.assert_allclose(away, [2 - math.sqrt(2), math.sqrt(2) - 1, 0, math.inf], atol=1e-12)


def test_sight_ends_at_walls():
    bed = Landmark("bed", 3, OrientedBox.aligned(*HALL[2][1:]))
    here = np.array([4.5, 3.0, 0.0])
    assert Sight(world(), SETTINGS).sees(here, bed)
    assert not Sight(world(wall=True), SETTINGS).sees(here, bed)


# ---- what is refused


def thing(name: str, number: int, x: float, y: float, half_m: float = 0.2) -> Landmark:
    return Landmark(name, number, OrientedBox.aligned([x - half_m, y - half_m, 0], [x + half_m, y + half_m, 1]))


def stop(x: float, y: float, landmark: Landmark) -> Stop:
    return Stop(np.array([x, y, 0.0]), landmark)


def turning(degrees: float, leg_m: float = 3.0) -> Draft:
    """Template 1: east to the table, then on at an angle; landmarks half a metre beyond the stops."""
    way, beyond = (
        np.array([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]) * r for r in (leg_m, leg_m + 0.5)
    )
    start, middle = stop(0, 0, thing("bed", 1, -0.5, 0)), stop(leg_m, 0, thing("table", 2, leg_m + 0.5, 0))
    goal = stop(leg_m + way[0], way[1], thing("tv", 3, leg_m + beyond[0], beyond[1]))
    return Draft(1, (start, middle, goal), middle.landmark)


@pytest.mark.parametrize(
    ("degrees", "flaw"), [(10, "no turn"), (34, "ambiguous turn"), (60, ""), (-90, ""), (130, "ambiguous turn")]
)
def test_ambiguous_turns_are_refused(degrees, flaw):
    assert shape_flaw(turning(degrees), SETTINGS) == flaw
    if not flaw:
        assert turning(degrees).kinds(SETTINGS) == (LEFT if degrees > 0 else RIGHT,)


def test_landmarks_that_tell_another_turn_are_refused():
    start, middle, goal = turning(45).stops
    # From this bed the table is 14 degrees to the left already, which makes the turn there ambiguous.
    south = replace(start, landmark=thing("bed", 1, 0, -0.9))
    assert shape_flaw(Draft(1, (south, middle, goal), middle.landmark), SETTINGS) == "the landmarks tell another turn"
    start, middle, goal = turning(60).stops
    aside = replace(goal, landmark=thing("tv", 3, 6.0, 2.0))
    assert shape_flaw(Draft(1, (start, middle, aside), middle.landmark), SETTINGS) == "a landmark ahead lies aside"
    wide = replace(goal, landmark=thing("tv", 3, 5.2, 3.8, half_m=3.0))
    assert shape_flaw(Draft(1, (start, middle, wide), middle.landmark), replace(SETTINGS, nearer_m=0.0)) == (
        "a goal in several directions"
    )
    near = replace(goal, landmark=thing("tv", 3, 3.4, 0.9))
    assert shape_flaw(Draft(1, (start, middle, near), middle.landmark), SETTINGS) == "a landmark near two stops"
    same = replace(goal, landmark=replace(goal.landmark, object_id=1))
    assert shape_flaw(Draft(1, (start, middle, same), middle.landmark), SETTINGS) == "the same landmark twice"


@pytest.mark.parametrize(
    ("degrees", "kind"), [(180, BACK), (165, BACK), (-162, BACK), (155, None), (-140, None), (120, LEFT), (-50, RIGHT)]
)
def test_template_2_turns_from_what_is_faced_to_the_goal(degrees, kind):
    """The way from what is faced over the start to the goal: no turn is Turn Back, one above 45 degrees a side."""
    goal = [3 * math.cos(math.radians(degrees)), 3 * math.sin(math.radians(degrees))]
    here, there = stop(0, 0, thing("bed", 1, 0, 0.4)), stop(*goal, thing("tv", 2, *goal))
    assert Draft(2, (here, there), thing("table", 3, 3, 0)).kinds(SETTINGS) == (kind,)


# ---- the plan


@pytest.mark.parametrize("count", [1, 7, 60])
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_plans_are_in_balance_before_any_world_is_seen(count, turns):
    slots = plan_slots(count, 5, RouteSettings(turns=turns))
    assert [slot.number for slot in slots] == list(range(count))
    options = 3 if turns == 1 else 4
    places = Counter(slot.options.index(", ".join(TURN_TEXTS[kind] for kind in slot.turns)) for slot in slots)
    classes = Counter(slot.turns for slot in slots)
    for counted, kinds in ((places, options), (classes, 3 if turns == 1 else 2**turns)):
        assert sum(counted.values()) == count
        assert max(counted.values()) - (min(counted.values()) if len(counted) == kinds else 0) <= 1
    assert all(len(set(slot.options)) == options for slot in slots)
    if turns == 1 and count == 60:
        assert Counter(slot.template for slot in slots) == {1: 20, 2: 40}
    assert plan_slots(count, 5, RouteSettings(turns=turns)) == slots


def test_settings_and_plans_refuse_nonsense():
    with pytest.raises(ValueError, match="count of at least 1, got 0"):
        plan_slots(0, 1)
    with pytest.raises(ValueError, match="min_leg_m must be below max_leg_m"):
        RouteSettings(min_leg_m=5.0, max_leg_m=4.0)
    with pytest.raises(ValueError, match=r"turns must be in 1\.\.3, got 4"):
        RouteSettings(turns=4)


# ---- sets


def test_routes_are_in_balance_and_none_comes_twice(routes):
    assert Counter(item.answer_text for item in routes) == {"Turn Left": 8, "Turn Right": 8, "Turn Back": 8}
    assert Counter(item.answer for item in routes) == {"A": 8, "B": 8, "C": 8}
    assert Counter(item.template for item in routes) == {1: 8, 2: 16}
    assert len({item.question for item in routes}) == len({item.id for item in routes}) == 24
    assert len({item.goal for item in routes}) >= 4


def test_answers_are_true_by_bearings_from_the_start_pose(env, routes):
    """The second method: angles from poses and object centres by atan2 alone."""
    center = {thing.instance_id: thing.box.center_m for thing in env.scene_graph().objects}
    for item in routes:
        x, y = item.T_WC_start[:2, 3]
        looking = math.degrees(math.atan2(item.T_WC_start[1, 2], item.T_WC_start[0, 2]))
        assert abs(wrapped(looking - compass_deg(x, y, center[item.facing_id]))) < 1e-6
        if item.template == 1:
            x, y = item.stops[1][:2]
            looking = compass_deg(*item.stops[0][:2], item.stops[1])
        turn = wrapped(compass_deg(x, y, center[item.goal_id]) - looking)
        size = abs(turn)
        told = "Turn Back" if size > 135 else ("Turn Left" if turn > 0 else "Turn Right") if size > 30 else "none"
        assert f"{item.answer}. {told}" in item.options, (item.id, turn)
        assert abs(wrapped(math.degrees(item.turns_rad[0]) - turn)) <= SETTINGS.aim_deg


def test_routes_can_be_walked_and_pass_what_they_name(env, routes):
    things = {thing.instance_id: thing.box for thing in env.scene_graph().objects}
    for item in routes:
        np.testing.assert_array_equal(item.waypoints[[0, -1], :2], item.stops[[0, -1], :2])
        np.testing.assert_allclose(item.T_WC_start[:3, 3] - item.stops[0], [0, 0, 1.5], atol=1e-9)
        steps = [a + share * (b - a) for a, b in pairwise(item.waypoints) for share in (0, 0.5, 1)]
        assert all(env.is_navigable(point) for point in steps)
        assert item.geodesic_m == pytest.approx(np.linalg.norm(np.diff(item.waypoints, axis=0), axis=1).sum())
        for feet, number in zip(item.stops, (item.start_id, *item.via_ids, item.goal_id), strict=True):
            gap = feet - things[number].nearest_point(feet)
            assert np.hypot(*gap[:2]) <= SETTINGS.anchor_m + 1e-9


def test_the_engine_is_asked_the_same_question(routes):
    for item in routes:
        asked = route_question(item.start, item.facing, item.goal, item.via)
        assert (asked.text, asked.turns) == (item.question, 1)
        assert (item.via == (item.facing,)) == (item.template == 1)


def test_items_have_the_form_of_vsi_bench(routes):
    item = routes[0].to_vsi_item()
    assert set(item) == {"id", "dataset", "scene_name", "question_type", "question", "options", "ground_truth"}
    assert item["question_type"] == "route_planning"
    assert [option[:3] for option in item["options"]] == ["A. ", "B. ", "C. "]
    assert item["options"]["ABC".index(item["ground_truth"])][3:] == routes[0].answer_text
    assert {option[3:] for option in item["options"]} == {"Turn Back", "Turn Left", "Turn Right"}


def test_same_seed_same_bytes(env, routes, tmp_path):
    write_routes(routes, tmp_path / "a.jsonl")
    write_routes(make_routes(world(), 24, 3, SETTINGS, progress=False), tmp_path / "b.jsonl")
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    other = make_routes(env, 3, 4, SETTINGS, progress=False)
    assert {item.question for item in other} != {item.question for item in routes[:3]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "b.jsonl"]


def test_routes_of_several_turns(env):
    routes = make_routes(env, 4, 0, replace(SETTINGS, turns=2), progress=False)
    assert {item.turns for item in routes} == {(a, b) for a in (LEFT, RIGHT) for b in (LEFT, RIGHT)}
    for item in routes:
        assert len(item.via) == 2
        assert item.question.count("[please fill in]") == 3  # two blanks and the note
        assert len(item.options) == 4
        assert check_route(item, env.scene_graph()).faults == ()


def test_a_world_with_too_little_says_how_many_and_why():
    with pytest.raises(ValueError, match=r"'hall' offers 0 of 3 routes, missing: 1 of template.* 2 landmarks one can"):
        make_routes(world(HALL[:2]), 3, 0, SETTINGS, progress=False)
    with pytest.raises(ValueError, match=r"offers [1-9]\d* of 400 routes, missing: .*not straight \(\d+\)"):
        make_routes(world(HALL[:4]), 400, 0, replace(SETTINGS, patience=20), progress=False)


def test_two_worlds_share_the_work(hall_file, tmp_path):
    other = tmp_path / "annex.ply"
    other.write_bytes(hall_file.read_bytes())
    graph = plain_graph("annex", hall(HALL[:3])[1], 72.0, room())
    write_metadata([graph], tmp_path / "annex_metadata.json")
    seen = []
    made = make_route_set(
        [str(hall_file), str(other)],
        12,
        0,
        SETTINGS,
        progress=False,
        on_world=lambda env, items: seen.append(env.scene_id),
    )
    report = made.report()
    assert seen[:2] == ["hall", "annex"]
    assert report["answers"] == {"Turn Back": 4, "Turn Left": 4, "Turn Right": 4}
    assert report["letters"] == {"A": 4, "B": 4, "C": 4}
    assert sum(report["scenes"].values()) == 12
    assert report["scenes"]["hall"] >= 6
    with pytest.raises(ValueError, match="are both scene 'hall'"):
        make_route_set([str(hall_file), str(hall_file.parent)], 2, 0, SETTINGS, progress=False)


# ---- files and the command lines


def test_routes_as_json(routes, tmp_path):
    for item in routes:
        again = route_from_json(json.loads(json.dumps(route_to_json(item))))
        assert route_to_json(again) == route_to_json(item)
        assert again.turns == item.turns
    entry = route_to_json(routes[0])
    with pytest.raises(ValueError, match=r"lacks \['goal'\]"):
        route_from_json({key: value for key, value in entry.items() if key != "goal"})
    with pytest.raises(ValueError, match=r"must not have \['colour'\]"):
        route_from_json(entry | {"colour": "red"})
    with pytest.raises(ValueError, match="must be one of the options"):
        route_from_json(entry | {"answer": "D"})
    with pytest.raises(ValueError, match=r"stops must have shape \(\d, 3\)"):
        route_from_json(entry | {"stops": [[0, 0, 0]]})
    (tmp_path / "bad.jsonl").write_text(json.dumps(entry) + "\n{}\n")
    with pytest.raises(ValueError, match=r"bad.jsonl: line 2: a route has the fields"):
        read_routes(tmp_path / "bad.jsonl")


def test_command_lines(hall_file, tmp_path, capsys):
    out = tmp_path / "routes.jsonl"
    run = ["--worlds", str(hall_file), "--count", "6", "--out", str(out), "--pictures", str(tmp_path / "maps")]
    assert main([*run, "--standing-points", "800"]) == 0
    said = capsys.readouterr().out
    assert "answers: Turn Back 2, Turn Left 2, Turn Right 2" in said
    assert "letters: A 2, B 2, C 2" in said
    assert "rejected: " in said
    assert len(read_routes(out)) == len(list((tmp_path / "maps").glob("*.png"))) == 6
    report = json.loads((tmp_path / "routes.report.json").read_text())
    assert report["settings"]["standing_points"] == 800
    assert checker.main([str(out), "--worlds", str(hall_file), "--draw", "4"]) == 0
    assert "4 of 4 routes, drawn of 6, agree with the second method" in capsys.readouterr().out
    assert main(["--worlds", "flat:3..1", "--count", "6", "--out", str(out)]) == 2
    assert "sim.routes: worlds are flat:SEED" in capsys.readouterr().err


def test_world_specs():
    assert world_specs("flat:2..4, a.glb") == [["flat:2", "flat:3", "flat:4"], ["a.glb"]]
    with pytest.raises(ValueError, match="worlds are flat:SEED"):
        world_specs("a.glb,,b.glb")


# ---- the second method and the maps


def test_the_second_method_agrees_and_notices(env, routes):
    graph = env.scene_graph()
    assert [check_route(item, graph).faults for item in routes] == [()] * len(routes)
    item = routes[0]
    others = [option for option in item.options if option[0] != item.answer]
    wrong = {text[3:]: kind for kind, text in TURN_TEXTS.items() for text in [f"X. {text}"]}[others[0][3:]]
    swapped = replace(item, answer=others[0][0], turns=(wrong,))
    assert "the answer is " in check_route(swapped, graph).faults[0]
    turned = item.T_WC_start.copy()
    turned[:2, :3] = [[0, -1], [1, 0]] @ turned[:2, :3]
    assert f"the start does not face the {item.facing}" in check_route(replace(item, T_WC_start=turned), graph).faults
    moved = item.T_WC_start.copy()
    moved[:2, 3] += 5 * item.T_WC_start[:2, 2]
    assert f"the start is not at the {item.start}" in check_route(replace(item, T_WC_start=moved), graph).faults
    assert (
        "does not mean object"
        in check_route(replace(item, start="tv" if item.start != "tv" else "bed"), graph).faults[0]
    )


def test_second_method_refuses_names_of_several_things(env, routes):
    item = next(item for item in routes if "chair" in item.question)
    name = next(name for name in (item.start, item.facing, item.goal) if name.startswith("chair"))
    assert name == "chair closest to the tv"
    plain = {f: "chair" for f in ("start", "facing", "goal") if getattr(item, f) == name}
    via = tuple("chair" if part == name else part for part in item.via)
    faults = check_route(replace(item, **plain, via=via), env.scene_graph()).faults
    assert any("chair does not mean object 8 alone, but [8, 9]" in fault for fault in faults)


def test_maps_show_the_way_and_the_goal(env, routes):
    item = routes[0]
    picture = np.asarray(route_picture(item, env.scene_graph(), env.floor_map()))
    extent = np.ptp(item.waypoints[:, :2], axis=0)
    assert (np.array(picture.shape[1::-1]) > extent * 70).all()
    for color in ((30, 90, 220), (200, 0, 40), (0, 130, 60)):
        assert (picture == color).all(axis=-1).sum() > 50


def test_small_house(small_house_dir):
    env = open_env(str(small_house_dir))
    routes = make_routes(env, 3, 7, progress=False)
    assert {item.answer_text for item in routes} == {"Turn Back", "Turn Left", "Turn Right"}
    assert [check_route(item, env.scene_graph()).faults for item in routes] == [()] * 3
