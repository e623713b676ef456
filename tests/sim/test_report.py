"""The report of a run: what it shows, that it stands alone, and what it makes of runs with holes in them."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from worlds import box, painted, room

from sim.camera import CameraSettings, camera_pose
from sim.env import FloorMap, Move
from sim.episode import Episode, episode_to_json
from sim.mesh_env import MeshEnv, WorldSettings
from sim.metrics import mean_with_interval, spl
from sim.report import main, write_report
from sim.reporting.floorplan import episode_plan, footprint, plan_image, ring
from sim.reporting.pictures import film_strip
from sim.reporting.plots import make_plots
from sim.reporting.run_data import read_run
from sim.reporting.tables import latency_text, number, reason
from sim.world.annotation import plain_graph
from vlm3r_core.scene.box import OrientedBox
from vlm3r_core.scene.graph import SceneObject

LENS = CameraSettings(width_px=48, height_px=48)
TABLE = SceneObject("table", OrientedBox.aligned([4, 1.5, 0], [5, 2.5, 0.7]), 3)
NASTY = "<script>alert(\"ü & '')</script>机器"
MAX_STEPS = 20
VOID = {"meta", "input", "img"}
EPISODES = ("find-0", "find-1", "find-2")


class Page(HTMLParser):
    """The elements of a page as (tag, attributes), its text, and whether every tag is closed in order."""

    def __init__(self, path: Path):
        super().__init__()
        self.elements, self.words, self.open = [], [], []
        self.raw = path.read_text(encoding="utf-8")
        self.feed(self.raw)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str, css: str = "") -> list[dict]:
        return [a for t, a in self.elements if t == tag and (not css or css in a.get("class", "").split())]


def decoded(uri: str) -> Image.Image:
    head, data = uri.split(",", 1)
    assert head in ("data:image/png;base64", "data:image/jpeg;base64")
    image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
    image.load()
    return image


def points_of(text: str) -> np.ndarray:
    """Drawn points as points of the world [N, 2]."""
    return np.array([[float(n) for n in pair.split(",")] for pair in text.split()]) * [1, -1]


def drive(env: MeshEnv, folder: Path, episode: Episode, moves: list[Move]) -> dict:
    """Drives an episode, keeps its pictures and tells what happened as results.json does."""
    now = env.reset(episode)
    start, path = now.position_m, [now.position_m]
    pictures = folder / "pictures" / episode.id
    pictures.mkdir(parents=True)
    for count, move in enumerate(moves):
        now = env.step(move)
        path.append(now.position_m)
        if count % 2 == 0 and count < 24:
            Image.fromarray(env.observe().frame.rgb).save(pictures / f"{count // 2:02d}.jpg", quality=90)
    edge = np.array([3.7, 2.0, 0.0])
    reference, left = env.shortest_path(start, edge), env.shortest_path(now.position_m, edge).distance_m + 0.3
    near, shortest = now.stopped and left <= 1.0, reference.distance_m + 0.3
    lists = {"center_m": [4.5, 2.0, 0.35], "lengths_m": [1.0, 1.0, 0.7], "R_WB": np.eye(3).tolist()}
    asked = {"asked": "How far is the table?", "options": [], "answer": "2 m", "truth": "2.7", "score": 0.5}
    chosen = {"asked": "On which side is it?", "options": ["left", "right"], "answer": "left", "truth": "left"}
    return {
        "id": episode.id,
        "scene": "room",
        "agent": "oracle",
        "success_1m": near,
        "success_3m": now.stopped and left <= 3.0,
        "oracle_success": near,
        "spl": spl(near, shortest, now.path_m),
        "ne_m": left,
        "ndtw": 0.9,
        "path_m": now.path_m,
        "shortest_m": shortest,
        "collisions": now.collisions,
        "steps": now.steps,
        "stopped": now.stopped,
        "questions": [asked | {"seen_before_answer": near}, chosen | {"score": 1.0, "seen_before_answer": True}],
        "path": np.round(path, 3).tolist(),
        "reference": np.round(reference.points, 3).tolist(),
        "start_yaw_rad": 0.0,
        "goal": {"category": "table", "object_id": 3, "box": lists},
        "sim_seconds": (now.stamp_ns - 10**9) / 1e9,
    }


def write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def edit(folder: Path, change, name: str = "results.json") -> None:
    """Changes a JSON file of a run."""
    value = json.loads((folder / name).read_text(encoding="utf-8"))
    change(value)
    write(folder / name, value)


def edit_episode(folder: Path, **changes) -> None:
    edit(folder, lambda results: results["episodes"][0].update(changes))


@pytest.fixture(scope="module")
def env():
    mesh = room(table=painted(box([4, 1.5, 0], [5, 2.5, 0.7]), (10, 200, 30)))
    ids = np.where(mesh.part_of_face == mesh.parts.index("table"), 3, 0)
    return MeshEnv("room", mesh, ids, plain_graph("room", (TABLE,), 0.0, mesh), WorldSettings(LENS))


@pytest.fixture(scope="module")
def master(env, tmp_path_factory):
    """A run of three driven episodes: a success, a stop too early, and one that never stops."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    moves = ([Move.FORWARD] * 10 + [Move.STOP], [Move.FORWARD] * 4 + [Move.STOP], [Move.TURN_LEFT] * MAX_STEPS)
    start = camera_pose(np.array([1.0, 2.0, 0.0]), 0.0, LENS)
    trials = [Episode(name, "find", "room", 1, start, "table", 3, max_steps=MAX_STEPS) for name in EPISODES]
    done = [drive(env, folder, trial, way) for trial, way in zip(trials, moves, strict=True)]
    keys = ("success_1m", "success_3m", "oracle_success", "spl", "ne_m", "ndtw", "path_m", "collisions")
    summary = {key: mean_with_interval([entry[key] for entry in done]) for key in keys}
    summary |= {"answer_accuracy": {"mean": 0.75, "low": 0.5, "high": 1.0, "count": 6}, "answers_before_seen": 2}
    summary["answers"] = {"distance": {"mean": 0.5, "low": 0.5, "high": 0.5}, "direction": {"mean": 1.0}}
    head = {"task": "find", "seed": 7, "settings": {"max_steps": MAX_STEPS}}
    write(folder / "results.json", head | {"agent": "oracle", "summary": summary, "episodes": done})
    write(folder / "episodes.json", head | {"episodes": [episode_to_json(trial) for trial in trials]})
    timings = [{"id": trial.id, "seconds": 1.5, "latency_ms": [120.0, 250.0]} for trial in trials]
    write(folder / "timings.json", {"episodes": timings})
    (folder / "maps").mkdir()
    plan = env.floor_map()
    np.savez(folder / "maps" / "room.npz", free=plan.free, origin_m=plan.origin_m, cell_m=plan.cell_m)
    return folder


@pytest.fixture
def run(master, tmp_path):
    """A copy of the run to change."""
    return Path(shutil.copytree(master, tmp_path / "first", ignore=shutil.ignore_patterns("report.html")))


@pytest.fixture(scope="module")
def page(master):
    return Page(write_report(master))


# ---- what a whole run shows


def test_sections_are_there(page):
    assert [a["id"] for a in page.all("section")] == ["summary", "plots", "episodes"]
    assert [a["id"] for a in page.all("article")] == ["episode-0", "episode-1", "episode-2"]
    assert [a["class"] for a in page.all("article")] == ["ok", "near early", "miss early"]
    assert page.all("ul", "notes") == []
    for word in ("SR 1 m", "SR 3 m", "OSR", "SPL", "NE, m", "nDTW", "collisions", "p50 / p99, ms", "Time to an answer"):
        assert word in page.text


def test_the_page_needs_nothing_else(page):
    links = [a[key] for _, a in page.elements for key in ("src", "href") if key in a]
    assert len(links) > 6
    assert all(link.startswith(("#", "data:image/")) for link in links)
    assert page.all("script") == page.all("link") == page.all("iframe") == []
    assert "://" not in page.raw
    assert "@import" not in page.raw
    assert "url(" not in page.raw
    policy = {part.split()[0]: part.split()[1:] for part in page.all("meta")[2]["content"].split(";")}
    assert policy == {"default-src": ["'none'"], "img-src": ["data:"], "style-src": ["'unsafe-inline'"]}


def test_every_anchor_leads_somewhere(page):
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for _, a in page.elements if a.get("href", "").startswith("#")} <= set(ids)
    assert {a["for"] for a in page.all("label")} <= set(ids)


def test_the_summary_has_the_figures_and_their_intervals(page):
    row = re.search(r"oracle find 3 (.*?) SR 1 m", page.text).group(1)
    assert row.startswith("33.3 % 0 to 100 66.7 % 0 to 100 33.3 %")
    assert "75.0 % 50 to 100 direction 100 distance 50 2 185 / 250" in row


def test_filters_count_the_outcomes(page):
    for words in ("all (3)", "success (1)", "within 3 m (1)", "failure (1)", "answered before seen (2)"):
        assert words in page.text


def test_reasons_are_told(page):
    assert "Stopped 0.50 m from the goal." in page.text
    assert "Stopped 2.00 m from the goal, more than 1 m." in page.text
    assert f"Never stopped: all {MAX_STEPS} steps were used, 3.00 m from the goal." in page.text


def test_the_plan_shows_the_free_area(page, env):
    (image,) = page.all("image")
    plan = env.floor_map()
    pixels = np.asarray(decoded(image["href"]).convert("RGBA"))
    np.testing.assert_array_equal(pixels[..., 3] > 0, plan.free.T[::-1])
    assert (pixels[..., :3][pixels[..., 3] > 0] == 255).all()
    low = [float(image["x"]), -float(image["y"]) - float(image["height"])]
    np.testing.assert_allclose(low, plan.origin_m, atol=2e-3)
    np.testing.assert_allclose(float(image["width"]), plan.free.shape[0] * plan.cell_m, atol=2e-3)
    assert {a["href"] for a in page.all("use")} == {"#plan0"}


def test_the_plan_shows_the_paths(page, master):
    done = json.loads((master / "results.json").read_text())["episodes"]
    for name, css in (("path", "walked"), ("reference", "reference")):
        for drawn, entry in zip(page.all("polyline", css), done, strict=True):
            np.testing.assert_allclose(points_of(drawn["points"]), np.array(entry[name])[:, :2], atol=0.0051)
    end = page.all("circle", "end")[0]
    np.testing.assert_allclose([float(end["cx"]), -float(end["cy"])], done[0]["path"][-1][:2], atol=0.0051)


def test_the_arrow_points_along_the_heading(page):
    tip, *back = points_of(page.all("polygon", "start")[0]["points"])
    assert tip[0] > 1.0 > max(point[0] for point in back)
    assert tip[1] == pytest.approx(2.0, abs=0.01)


def test_the_view_holds_the_floor_and_the_ring(page):
    x, y, width, height = (float(value) for value in page.all("svg", "plan")[0]["viewbox"].split())
    assert x < 0.2
    assert x + width > 6.0
    assert -y > 3.8
    assert -y - height < 0.2


def test_film_strips_show_the_pictures(page, master):
    films = page.all("img", "film")
    assert len(films) == 3
    strip = decoded(films[0]["src"])
    assert strip.size == (int(films[0]["width"]), int(films[0]["height"]))
    first = Image.open(master / "pictures" / "find-0" / "00.jpg").resize((144, 144), Image.Resampling.LANCZOS)
    tile = np.asarray(strip, float)[:144, :144]
    assert np.abs(tile - np.asarray(first, float)).mean() < 5


def test_questions_are_listed(page):
    assert "1 How far is the table? 2 m 2.7 0.50 yes 120" in page.text
    assert "2 On which side is it? left / right left left 1.00 yes 250" in page.text
    assert len(page.all("tr", "early")) == 2
    assert "confidence" not in page.text


def test_a_question_asked_again_is_told_by_its_number(run):
    edit(run, lambda results: results["episodes"][0]["questions"].append(results["episodes"][0]["questions"][1]))
    assert "3 as question 2 left / right left left 1.00 yes -" in Page(write_report(run)).text


def test_same_files_give_the_same_bytes_and_nothing_is_left(run):
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first
    assert sorted(path.name for path in run.iterdir() if path.suffix in (".html", ".partial")) == ["report.html"]


# ---- names that would break a page


def test_names_are_escaped(run):
    def poison(results):
        results["agent"] = NASTY
        results["settings"] = {NASTY: NASTY}
        entry = results["episodes"][0]
        entry["goal"]["category"] = NASTY
        entry["questions"][0] |= {"asked": NASTY, "answer": NASTY, "truth": NASTY, "options": [NASTY]}
        entry["id"] = '"><img src=x onerror=alert(1)>'
        entry["scene"] = "a/../" + NASTY

    edit(run, poison)
    page = Page(write_report(run))
    assert page.all("script") == []
    assert all("onerror" not in attributes for _, attributes in page.elements)
    assert page.text.count(NASTY) >= 7
    assert "<script" not in page.raw


def test_an_episode_cannot_name_a_folder_outside(run, tmp_path):
    (tmp_path / "first" / "secret").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "first" / "secret" / "00.jpg")
    assert read_run(run).pictures("../secret") == []
    assert read_run(run).pictures(".") == []
    assert len(read_run(run).pictures("find-0")) == 6


# ---- runs with holes


def test_a_bare_results_file_is_enough(run):
    for name in ("pictures", "maps"):
        shutil.rmtree(run / name)
    for name in ("timings.json", "episodes.json"):
        (run / name).unlink()
    page = Page(write_report(run))
    assert len(page.all("article")) == 3
    assert page.all("img") == page.all("image") == []
    assert len(page.all("polyline", "walked")) == 3
    for words in ("no timings.json", "no episodes.json", "no pictures folder", "scene room: no map room.npz"):
        assert words in page.text
    assert "Time to an answer" not in page.text


def test_an_unfinished_run_says_so(run):
    edit(run, lambda results: results["episodes"].pop())
    page = Page(write_report(run))
    assert "unfinished: 1 of 3 episodes have no result yet" in page.text
    assert "2 of 3" in page.text


def test_a_run_without_a_result_has_a_page(run):
    edit(run, lambda results: results.update(episodes=[], summary={}))
    page = Page(write_report(run))
    assert [a["id"] for a in page.all("section")] == ["summary"]
    assert "no episode has a result yet" in page.text


def test_an_episode_with_nothing_but_its_id(run):
    edit(run, lambda results: results.update(episodes=[{"id": "find-0"}, {"id": 4, "ne_m": None, "goal": None}]))
    page = Page(write_report(run))
    assert len(page.all("article", "miss")) == 2
    assert page.text.count("no path to draw") == 2
    assert "at an unknown distance from the goal" in page.text


def test_unreadable_pictures_and_maps_are_noted(run):
    (run / "pictures" / "find-0" / "00.jpg").write_bytes(b"not a picture")
    (run / "maps" / "room.npz").write_bytes(b"not an archive")
    page = Page(write_report(run))
    assert "1 pictures could not be read" in page.text
    assert "scene room: map room.npz must hold free [X, Y], origin_m [2] and cell_m" in page.text
    assert len(page.all("img", "film")) == 3


def test_values_without_an_end_are_written(run):
    edit_episode(run, ne_m=math.inf, ndtw=math.nan, success_1m=False, success_3m=False)
    page = Page(write_report(run))
    assert "where no way leads to the goal" in page.text
    assert "nan" not in page.text.lower()


def test_errors_are_told(run):
    edit_episode(run, error="TimeoutError: no <reply>", ne_m=None, reference=[], success_1m=False, success_3m=False)
    page = Page(write_report(run))
    assert "1 episodes ended in an error and count as failures" in page.text
    assert "Error: TimeoutError: no <reply>" in page.text


# ---- several runs


def test_runs_are_compared(run, tmp_path):
    other = Path(shutil.copytree(run, tmp_path / "second"))
    edit(other, lambda results: results.update(agent="random"))
    edit_episode(other, success_1m=False, success_3m=False)
    page = Page(write_report(run, other))
    assert not (other / "report.html").exists()
    assert "oracle find 3" in page.text
    assert "random find 3" in page.text
    assert len(page.all("polyline", "other")) == 3
    assert len(page.all("article")) == 3
    assert {a["class"] for a in page.all("rect")} == {"s0", "s1"}
    assert "oracle: 33 % (1 of 3) random: 0 % (0 of 3)" in page.text
    assert page.all("ul", "notes") == []


def test_runs_of_one_agent_are_told_apart(run, tmp_path):
    other = Path(shutil.copytree(run, tmp_path / "second"))
    edit(other, lambda results: results["episodes"].pop())
    page = Page(write_report(run, other))
    assert "oracle (first) find 3" in page.text
    assert "oracle (second) shares 2 episodes with oracle (first)" in page.text


def test_runs_of_other_tasks_and_seeds_are_noted(run, tmp_path):
    others = [Path(shutil.copytree(run, tmp_path / name)) for name in ("second", "third")]
    edit(others[0], lambda results: results.update(agent="engine", task="route"))
    edit(others[1], lambda results: results.update(agent="random", seed=8))
    page = Page(write_report(run, *others))
    assert "engine did another task" in page.text
    assert "random has another seed than oracle" in page.text


# ---- broken files


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no results\.json in .*; give a folder that `python -m sim\.run"):
        write_report(tmp_path)


def test_what_is_not_json_is_refused(run):
    (run / "results.json").write_text('{"agent": "oracle", "episodes": [')
    with pytest.raises(ValueError, match=r"results\.json is not JSON"):
        write_report(run)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "must hold an object, got list"),
        ({"agent": "oracle"}, "must have agent, task and episodes, task, episodes is missing"),
        ({"agent": "a", "task": "find", "episodes": {}}, "episodes must be a list, got dict"),
        ({"agent": "a", "task": "find", "episodes": [{"spl": 1}]}, "episode 0 must be an object with an id"),
        (
            {"agent": "a", "task": "find", "episodes": [{"id": "e", "spl": "x"}]},
            r"episode 0 \(e\): spl must be a number",
        ),
        (
            {"agent": "a", "task": "find", "episodes": [{"id": "e", "path": [[1]]}]},
            r"path must be finite points \[N, 3\]",
        ),
        (
            {"agent": "a", "task": "find", "episodes": [{"id": "e", "questions": ["q"]}]},
            "questions must be a list of obj",
        ),
        ({"agent": "a", "task": "find", "episodes": [{"id": "e", "goal": {"box": {}}}]}, "a goal's box has center_m"),
    ],
)
def test_malformed_results_are_refused(run, value, message):
    write(run / "results.json", value)
    with pytest.raises(ValueError, match=message):
        write_report(run)
    assert not (run / "report.html").exists()


@pytest.mark.parametrize("name", ["timings.json", "episodes.json"])
def test_malformed_side_files_are_refused(run, name):
    write(run / name, {"episodes": 5})
    with pytest.raises(ValueError, match=f"{name}: episodes must be a list of objects with an id, got 5"):
        write_report(run)


def test_command_line(run, tmp_path, capsys):
    assert main([str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "no results.json in" in capsys.readouterr().err


# ---- parts


@pytest.mark.parametrize("yaw_rad", [0.0, 0.7, -2.0])
def test_the_ring_is_a_metre_around_the_footprint(yaw_rad):
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    thing = OrientedBox([1.0, -2.0, 0.5], [2.0, 0.6, 1.0], [[c, -s, 0], [s, c, 0], [0, 0, 1]])
    path = ring(footprint(thing), 1.0)
    ends = np.array([[float(x), -float(y)] for x, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", path)])
    assert len(ends) == 9
    apart = [np.linalg.norm(thing.nearest_point([*end, 0.5])[:2] - end) for end in ends]
    np.testing.assert_allclose(apart, 1.0, atol=0.01)
    # counter-clockwise, so that arcs with sweep 0 bulge outwards under a downward y
    area = sum(a[0] * b[1] - a[1] * b[0] for a, b in pairwise(ends))
    assert area > 0


def test_a_route_ends_at_the_reference_path_and_a_flat_box_has_a_footprint(run):
    entry = read_run(run).episodes[0]
    shown = episode_plan(entry, None, [], to_point=True)
    ends = np.array(re.findall(r"(-?[\d.]+),(-?[\d.]+)", shown["ring"]), float) * [1, -1]
    np.testing.assert_allclose(np.linalg.norm(ends - entry["reference"][-1], axis=1), 1.0, atol=0.02)
    flat = OrientedBox([0, 0, 1], [2.0, 0.0, 0.0], np.eye(3))
    assert len(footprint(flat)) == 4


def test_the_ring_is_in_view_where_the_floor_is_unknown(run):
    x, y, width, height = episode_plan(read_run(run).episodes[0], None, [])["view"]
    assert (x, y) < (1.0, -3.5)
    assert x + width > 6.0
    assert y + height > -0.5


def test_a_large_plan_is_thinned_and_cropped(run):
    free = np.ones((5000, 100), bool)
    plan = FloorMap(free, np.zeros(2), 0.1)
    image = plan_image(plan)
    assert max(decoded(image["href"]).size) <= 2048
    assert image["width"] == pytest.approx(500.0, abs=0.3)
    view = episode_plan(read_run(run).episodes[0], plan, [])["view"]
    assert view[2] < 20


def test_film_strips_keep_their_budget(tmp_path):
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i:02d}.jpg" for i in range(12)]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (224, 224, 3), np.uint8)).save(path, quality=85)
    for budget in (100_000, 40_000):
        strip, unreadable = film_strip(paths, budget)
        assert len(strip["href"]) < budget * 1.4
        assert (strip["count"], unreadable) == (12, 0)
    assert film_strip([], 1000) == (None, 0)


def test_many_episodes_share_a_budget(run, monkeypatch):
    def strips_bytes() -> int:
        return sum(len(film["src"]) for film in Page(write_report(run)).all("img", "film"))

    assert strips_bytes() > 12_000 * 1.4
    monkeypatch.setattr("sim.report._ALL_STRIPS_BYTES", 12_000)
    assert strips_bytes() < 12_000 * 1.4


def test_histograms_hold_every_episode(run):
    plots = {plot["title"]: plot for plot in make_plots([read_run(run)])}
    assert set(plots) == {"Success by scene", "SPL", "Distance to the goal at the end", "Time to an answer"}
    for title, of in (("SPL", 3), ("Distance to the goal at the end", 3), ("Time to an answer", 6)):
        tips = [re.match(r"(\d+) % \((\d+) ", bar["tip"]).groups() for bar in plots[title]["bars"]]
        assert sum(int(count) for _, count in tips) == of
        assert sum(int(share) for share, _ in tips) == pytest.approx(100, abs=2)
    assert [bar["tip"] for bar in plots["Success by scene"]["bars"]] == ["33 % (1 of 3)"]


@pytest.mark.parametrize(
    ("largest", "end"), [(0.0, "1"), (0.6, "1"), (1.1, "2"), (7.3, "10"), (20.0, "20"), (21, "25")]
)
def test_distances_end_at_a_round_number(run, largest, end):
    edit_episode(run, ne_m=largest)
    edit(run, lambda results: [entry.update(ne_m=0.0) for entry in results["episodes"][1:]])
    (plot,) = [plot for plot in make_plots([read_run(run)]) if "Distance" in plot["title"]]
    assert (plot["x_ticks"][0]["text"], plot["x_ticks"][-1]["text"]) == ("0", end)


def test_bars_stand_on_the_axis_and_end_at_their_share(run):
    for plot in make_plots([read_run(run)]):
        ticks = sorted((tick["y"], float(tick["text"])) for tick in plot["y_ticks"])
        for bar in plot["bars"]:
            share = np.interp(bar["y"], *zip(*ticks, strict=True))
            assert share == pytest.approx(float(bar["tip"].split(" %")[0]), abs=0.8)
            assert bar["y"] + bar["height"] == pytest.approx(plot["axes"]["bottom"], abs=0.2)
            assert plot["axes"]["left"] < bar["x"] < bar["x"] + bar["width"] < plot["axes"]["right"]


def test_confidence_is_plotted_where_given(run):
    def sure(results):
        for entry in results["episodes"]:
            for item in entry["questions"]:
                item["confidence"] = 0.95 if item["score"] == 1 else 0.25

    edit(run, sure)
    plot = make_plots([read_run(run)])[-1]
    tips = [bar["tip"] for bar in plot["bars"]]
    assert (plot["title"], plot["diagonal"]) == ("Reliability", True)
    assert (tips[9], tips[2], tips[0]) == ("100 % (3 answers)", "50 % (3 answers)", "0 % (0 answers)")
    assert "confidence" in Page(write_report(run)).text


def test_numbers_as_text():
    assert [number(v) for v in (1.005, None, "x", True, math.nan)] == ["1.00", "-", "-", "-", "-"]
    assert number(math.inf, 2, "m") == "∞ m"
    assert latency_text([100.0, None, 300.0, math.nan]) == "200 / 298"
    assert latency_text([4.0, 6.0]) == "5.0 / 6.0"
    assert latency_text([]) == "-"


def test_a_wrong_stop_after_being_near_is_told(run):
    entry = read_run(run).episodes[1] | {"oracle_success": True}
    assert reason(entry, None) == "Stopped 2.00 m from the goal, more than 1 m. It had been near enough on the way."
    assert reason(entry | {"error": "no frame"}, None) == "Error: no frame"
