"""The parts of a flat, each by itself: sizes, floor plans, free places, ways, shapes, textures, how often what is."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import trimesh

from sim.flats.catalogue import CATEGORIES, KINDS, draw_size
from sim.flats.furnish import furnish
from sim.flats.looks import Looks
from sim.flats.models import MODELS
from sim.flats.models_small import SMALL_MODELS
from sim.flats.passages import out_of_reach
from sim.flats.placing import APPROACH_M, Item, Rect, Space
from sim.flats.plan import INNER_WALL_M, Plan, Room, make_plan
from sim.flats.shapes import Shapes
from sim.flats.textures import KINDS as TEXTURES
from sim.flats.textures import texture
from vlm3r_core.scene.box import OrientedBox

FLATS = 120


def plan_of(seed: int, count: int | None = None) -> Plan:
    rng = np.random.default_rng((seed, 0))
    return make_plan(rng, count or int(rng.integers(1, 6)))


@pytest.fixture(scope="module")
def plans() -> list[Plan]:
    return [plan_of(seed) for seed in range(FLATS)]


@pytest.fixture(scope="module")
def furnished(plans) -> list[tuple[Item, ...]]:
    return [furnish(plan, (seed, 1), clutter=1.0, sigma=0.3) for seed, plan in enumerate(plans)]


def test_every_category_occurs_once_and_several_times(furnished):
    """Else a count or an "is there" is answered without looking."""
    counts = [Counter(item.category for item in items) for items in furnished]
    for category in CATEGORIES:
        once = sum(count[category] == 1 for count in counts)
        several = sum(count[category] > 1 for count in counts)
        assert once >= 0.05 * FLATS, f"{category} is single in {once} of {FLATS} flats"
        assert several >= 0.02 * FLATS, f"{category} is several times in {several} of {FLATS} flats"


def test_nothing_stands_before_a_doorway(plans, furnished):
    """Open leafs of other doorways included."""
    doorways = 0
    for plan, items in zip(plans, furnished, strict=True):
        for door in plan.doorways:
            half = [door.thickness_m / 2 + 0.8, door.width_m / 2][:: 1 if door.axis == 0 else -1]
            zone = Rect(*door.center_m.tolist(), *half)
            assert not [item for item in items if item.z_m < 1.6 and item.rect.meets(zone)]
            doorways += 1
    assert doorways > 150


def test_every_room_can_be_walked(plans, furnished):
    for plan, items in zip(plans, furnished, strict=True):
        for index in range(len(plan.rooms)):
            assert out_of_reach(plan, index, [item for item in items if item.room == index]) == ()


def test_sizes_are_spread(furnished):
    """By category, over all kinds, of the longest side; doors are nearly all one size at home too."""
    longest: dict[str, list[float]] = {}
    for item in (item for items in furnished for item in items):
        longest.setdefault(item.category, []).append(max(item.size_m))
    spread = {category: float(np.std(np.log(values))) for category, values in longest.items()}
    assert min(value for category, value in spread.items() if category != "door") > 0.11
    assert np.median(list(spread.values())) > 0.18


def test_rooms_are_furnished(furnished):
    rooms = sum(len({item.room for item in items}) for items in furnished)
    assert sum(map(len, furnished)) / rooms > 9
    assert len({item.category for items in furnished for item in items}) == len(CATEGORIES)
    assert len(CATEGORIES) >= 24


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_keep_their_limits(kind):
    entry, rng = KINDS[kind], np.random.default_rng(1)
    sizes = np.array([draw_size(rng, kind) for _ in range(200)])
    spans = np.array([entry.depth_m, entry.width_m, entry.height_m])
    assert (sizes >= spans[:, 1]).all()
    assert (sizes <= spans[:, 2]).all()
    assert (spans[:, 1] < spans[:, 0]).all()
    assert (spans[:, 0] < spans[:, 2]).all()
    if entry.square:
        np.testing.assert_array_equal(sizes[:, 0], sizes[:, 1])
    assert len(np.unique(sizes[:, 1])) > 190  # not piled up at a limit


def test_sigma_is_the_spread():
    """Where limits are wide the logarithm spreads as asked; without spread a size is the usual one."""
    rng = np.random.default_rng(0)
    widths = np.log([draw_size(rng, "trash bin", 0.15)[1] for _ in range(600)])
    assert widths.std() == pytest.approx(0.15, rel=0.1)
    assert draw_size(rng, "bed", 0.0) == pytest.approx([span[0] for span in (KINDS["bed"].depth_m, *_rest("bed"))])


def _rest(kind: str):
    return KINDS[kind].width_m, KINDS[kind].height_m


@pytest.mark.parametrize("count", range(1, 6))
def test_plans(count):
    for seed in range(12):
        plan = plan_of(seed, count)
        assert len(plan.rooms) == count
        assert len({room.name for room in plan.rooms}) == count
        for i, room in enumerate(plan.rooms):
            assert 2 < room.area_m2 < 37
            for other in plan.rooms[i + 1 :]:
                apart = np.maximum(room.low_m - other.high_m, other.low_m - room.high_m).max()
                assert apart >= INNER_WALL_M - 1e-9
        reached, edge = {0}, [0]
        while edge:
            here = edge.pop()
            for door in plan.doorways:
                if here in door.rooms:
                    fresh = set(door.rooms) - reached
                    reached |= fresh
                    edge += sorted(fresh)
        assert reached == set(range(count))


def test_doorways_lie_in_the_walls_of_both_rooms():
    for seed in range(15):
        plan = plan_of(seed, 4)
        for number, door in enumerate(plan.doorways):
            for index in door.rooms:
                room = plan.rooms[index]
                assert number in room.doorways
                spans = [door.span_on(wall) for wall in room.walls]
                (span,) = [item for item in spans if item]
                wall = room.walls[spans.index(span)]
                assert span[1] - span[0] == pytest.approx(door.width_m)
                assert 0.1 < span[0] < span[1] < wall.length_m - 0.1
                assert not wall.outer
            assert door.height_m < plan.height_m
            assert door.width_m > 0.7


def test_bathrooms_are_on_the_way_to_nothing():
    for seed in range(40):
        plan = plan_of(seed, 5)
        for room in plan.rooms:
            assert room.kind != "bath" or len(room.doorways) == 1


def test_walls_go_around_a_room():
    room = Room("study", "study", np.array([1.0, 2.0]), np.array([4.0, 7.0]), (True, False, True, False))
    for wall, after in zip(room.walls, [*room.walls[1:], room.walls[0]], strict=True):
        np.testing.assert_allclose(wall.start + wall.along * wall.length_m, after.start)
        middle = wall.start + wall.along * wall.length_m / 2 + wall.inward * 0.1
        assert (middle > room.low_m).all()
        assert (middle < room.high_m).all()
    assert room.area_m2 == 15


def empty_room(width: float = 4.0, depth: float = 3.0) -> Space:
    room = Room("study", "study", np.zeros(2), np.array([width, depth]), (True,) * 4)
    return Space(Plan((room,), (), 2.5), 0, np.random.default_rng(0), 0.3)


def thing(space: Space, x: float, y: float, size=(0.5, 0.5, 0.8), z: float = 0.0, yaw: float = 0.0) -> Item:
    return space.item("chair", size, x, y, z, yaw)


def test_rectangles_meet_as_boxes_do():
    rng = np.random.default_rng(3)
    met = 0
    for _ in range(300):
        pair = [Rect(*rng.uniform(0, 2, 2), *rng.uniform(0.1, 0.7, 2), rng.uniform(-3, 3)) for _ in range(2)]
        boxes = [OrientedBox.around(corners_of(rect), rect.yaw) for rect in pair]
        grid = np.stack(np.meshgrid(*[np.linspace(-1.5, 3.5, 180)] * 2), axis=-1).reshape(-1, 2)
        points = np.pad(grid, ((0, 0), (0, 1)))
        common = (boxes[0].contains(points) & boxes[1].contains(points)).any()
        met += common
        if common:
            assert pair[0].meets(pair[1])
        elif pair[0].meets(pair[1]):  # a sliver between the grid's points
            assert not pair[0].grown(-0.03).meets(pair[1].grown(-0.03))
    assert 60 < met < 280


def corners_of(rect: Rect) -> np.ndarray:
    c, s = np.cos(rect.yaw), np.sin(rect.yaw)
    local = np.array([[a * rect.half_d, b * rect.half_w] for a in (-1, 1) for b in (-1, 1)])
    return np.pad(local @ np.array([[c, s], [-s, c]]) + [rect.x, rect.y], ((0, 0), (0, 1)))


def test_a_place_is_free_or_not():
    space = empty_room()
    table = space.add(thing(space, 2.0, 1.5, (1.0, 1.0, 0.7)))
    assert not space.fits(thing(space, 2.6, 1.5))
    assert space.fits(thing(space, 2.8, 1.5))
    assert not space.fits(thing(space, 2.757, 1.5))  # closer than things may stand
    assert space.fits(thing(space, 2.0, 1.5, z=0.7))
    assert not space.fits(thing(space, 2.0, 1.5, z=0.6))
    assert not space.fits(thing(space, 0.2, 1.5))  # through the wall
    assert not space.fits(thing(space, 3.0, 1.5, (0.5, 0.5, 2.6)))  # through the ceiling
    turned = thing(space, 2.78, 1.5, yaw=np.pi / 4)
    assert not space.fits(turned)
    space.keep_free(Rect(3.5, 0.5, 0.4, 0.4))
    assert not space.fits(thing(space, 3.5, 0.5))
    assert space.fits(thing(space, 3.5, 0.5), ignore_free=True)
    assert space.fits(thing(space, 3.5, 0.5, (0.5, 0.5, 0.3), z=1.7))  # above one's head
    assert space.on_top("keyboard", table) is not None
    assert space.items[-1].on == table
    assert space.items[-1].z_m == pytest.approx(0.7)


def test_things_at_a_wall_look_away_from_it():
    space = empty_room()
    for wall in space.walls:
        found = space.along_wall("clock", wall=wall, z_m=1.5)
        item = space.items[found]
        assert np.cos(item.yaw_rad) == pytest.approx(wall.inward[0])
        assert np.sin(item.yaw_rad) == pytest.approx(wall.inward[1])
        assert (np.array([item.x_m, item.y_m]) - wall.start) @ wall.inward < 0.1
    assert space.along_wall("closet", size=(0.5, 9.0, 2.0)) is None


def test_ways_are_blocked_and_cleared():
    rooms, start = make_plan(np.random.default_rng(5), 3), None
    for index, room in enumerate(rooms.rooms):
        assert out_of_reach(rooms, index, []) == ()
        if start is None and len(room.doorways) > 1:
            start = index
    assert start is not None
    room = rooms.rooms[start]
    middle, size = (room.low_m + room.high_m) / 2, room.high_m - room.low_m
    space = Space(rooms, start, np.random.default_rng(0), 0.3)
    full = space.item("closet", (*(size - 0.3).tolist(), 2.0), *middle.tolist(), 0.0, 0.0)
    assert out_of_reach(rooms, start, [full]) is None


def test_what_is_fenced_in_is_out_of_reach():
    room = Room("study", "study", np.zeros(2), np.array([6.0, 4.0]), (True,) * 4)
    plan = Plan((room,), (), 2.5)
    space = Space(plan, 0, np.random.default_rng(0), 0.3)
    fence = space.item("cabinet", (1.2, 3.9, 1.0), 1.3, 2.0, 0.0, 0.0)
    behind, free = thing(space, 0.3, 2.0, (0.3, 0.3, 0.8)), thing(space, 4.0, 2.0)
    assert out_of_reach(plan, 0, [fence, behind, free]) == (1,)


@pytest.mark.parametrize("kind", sorted(MODELS | SMALL_MODELS))
def test_models_fill_their_size_and_are_closed(kind):
    """Boxes and tubes with their front outside: every one encloses a positive volume."""
    for style in range(6):
        shapes = Shapes(Looks(np.random.default_rng(style)))
        size = draw_size(np.random.default_rng((style, 3)), kind)
        shapes.start("it", 0.0, 0.0, 0.0, 0.0)
        (MODELS | SMALL_MODELS)[kind](shapes, *size, np.random.default_rng(style))
        solids = shapes.solids()
        drawn = solids.high_m[0] - solids.low_m[0]
        high = np.array([size[0] / 2, size[1] / 2, size[2]])
        assert (solids.low_m[0] >= high * [-1, -1, 0] - 1e-9).all()
        assert (solids.high_m[0] <= high + 1e-9).all()
        assert (drawn >= 0.9 * np.array(size)).all()
        for part in range(len(solids.mesh.parts)):
            faces = solids.mesh.faces[solids.mesh.part_of_face == part]
            assert trimesh.Trimesh(solids.mesh.vertices_m, faces, process=False).volume > 0
        assert 12 <= len(solids.mesh.faces) < 1200
    assert set(MODELS | SMALL_MODELS) == set(KINDS)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("taper", [0.5, 1.0, 2.0])
def test_tubes_are_closed_with_their_front_outside(axis, taper):
    """A twelve-sided tube has 3 r^2 under its top; one that narrows to a half holds 7/12 of that."""
    shapes = Shapes(Looks(np.random.default_rng(0)))
    shapes.start("it", 0.0, 0.0, 0.0, 0.4)
    ends = [(-0.2, 0.2)] * 3
    ends[axis] = (0.1, 0.9)
    shapes.tube("body", shapes.looks.material("wood"), *ends[0], *ends[1], *ends[2], taper=taper, axis=axis)
    solids = shapes.solids()
    mesh = trimesh.Trimesh(solids.mesh.vertices_m, solids.mesh.faces)
    mesh.merge_vertices(merge_tex=True)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(0.8 * 3 * 0.2**2 * (1.0 if taper == 1 else 7 / 12))
    np.testing.assert_allclose([solids.low_m[0], solids.high_m[0]], np.transpose(ends), atol=1e-12)


def test_shapes_stand_where_they_are_put():
    shapes = Shapes(Looks(np.random.default_rng(0)))
    red = shapes.looks.material("smooth", (200, 20, 20))
    shapes.start("box", 1.0, 2.0, 0.5, np.pi / 2)
    shapes.box("body", red, 0.0, 0.4, -0.1, 0.1, 0.0, 0.3)
    shapes.box("body", shapes.looks.material("wood"), 0.0, 0.1, -0.1, 0.1, 0.3, 0.4)
    shapes.start("wheel", 0.0, 0.0, 0.0, 0.0)
    shapes.tube("rim", red, 0.0, 0.1, -0.3, 0.3, 0.0, 0.6, axis=0)
    solids = shapes.solids()
    points = solids.mesh.vertices_m[solids.mesh.faces[solids.thing_of_face == 0]].reshape(-1, 3)
    np.testing.assert_allclose(points.min(axis=0), [0.9, 2.0, 0.5], atol=1e-12)
    np.testing.assert_allclose(points.max(axis=0), [1.1, 2.4, 0.9], atol=1e-12)
    np.testing.assert_allclose([solids.low_m[1], solids.high_m[1]], [[0, -0.3, 0], [0.1, 0.3, 0.6]], atol=1e-12)
    assert solids.mesh.parts == ("box/body", "box/body_2", "wheel/rim")


def test_a_repeated_texture_has_the_same_scale_everywhere():
    shapes = Shapes(Looks(np.random.default_rng(0)))
    look = shapes.looks.material("wood")
    for name, size in (("small", 0.2), ("large", 2.0)):
        shapes.start(name, 0, 0, 0, 0)
        shapes.box("body", look, 0, size, 0, size, 0, size)
    solids = shapes.solids()
    uv, points = solids.mesh.uv[solids.mesh.faces], solids.mesh.triangles_m()
    along_uv = np.linalg.norm((uv[:, 1] - uv[:, 0]) * shapes.looks.tile_m[look], axis=1)
    np.testing.assert_allclose(along_uv, np.linalg.norm(points[:, 1] - points[:, 0], axis=1), rtol=1e-4)


@pytest.mark.parametrize("kind", TEXTURES)
def test_textures(kind):
    first = texture(kind, 3)
    assert first.dtype == np.uint8
    assert first.shape[2] == 4
    assert (first[..., 3] == 255).all()
    assert max(first.shape) <= 256
    assert first[..., :3].std() > 1.0
    assert not np.array_equal(first, texture(kind, 4))
    before = first.copy()
    texture.cache_clear()
    np.testing.assert_array_equal(texture(kind, 3), before)
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 0


def test_a_material_is_made_once():
    looks = Looks(np.random.default_rng(0))
    assert looks.material("wood", (1, 2, 3), 4) == looks.material("wood", (1, 2, 3), 4)
    assert looks.material("wood", (1, 2, 3), 5) == 1
    assert looks.materials[0].factor == (1 / 255, 2 / 255, 3 / 255, 1.0)


def test_approach_is_deeper_than_a_person():
    assert APPROACH_M > 2 * 0.2
