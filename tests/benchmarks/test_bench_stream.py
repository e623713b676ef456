"""The stream benchmark: it measures the engine's real path, changes nothing about it, and reports what it measured."""

from __future__ import annotations

import json
from contextlib import contextmanager

import pytest
import torch

from benchmarks import report
from benchmarks.bench_stream import main, write_json
from benchmarks.first_token import ask_three_ways, first_token_ms, measure_first_token, recompute_ms
from benchmarks.floors import STAGES
from benchmarks.memory_growth import growth_percent
from benchmarks.stages import OTHER, StageClock, timed_stages
from benchmarks.stream import Plan, frame_source
from benchmarks.tables import markdown_table, show
from vlm3r_core.config import StreamConfig
from vlm3r_core.loading import load
from vlm3r_core.prompt import prefix_ids
from vlm3r_core.stream.engine import StreamEngine


@pytest.fixture(scope="module")
def model():
    return load("tiny-random", "cpu")


@pytest.fixture(scope="module")
def make_frame():
    return frame_source()


class TestWholeRun:
    @pytest.fixture(scope="class")
    @classmethod
    def result(cls, tmp_path_factory):
        out = tmp_path_factory.mktemp("bench") / "new" / "bench.json"
        small = "--frames 4 2 --stage-frames 3 --warm-up 2 --repeats 2 --memory-since 3 --memory-frames 6"
        assert main([*small.split(), "--device", "cpu", "--out", str(out)]) == 0
        assert [path.name for path in out.parent.iterdir()] == ["bench.json"]
        return json.loads(out.read_text())

    def test_names_model_and_machine(self, result):
        assert (result["model"], result["device"], result["dtype"]) == ("tiny-random", "cpu", "float32")
        machine = result["machine"]
        assert machine["torch"] == torch.__version__
        assert machine["threads"] == torch.get_num_threads()
        assert machine["peak_gflops"] > 0
        assert machine["peak_gb_per_s"] > 0

    def test_stages_add_up_to_the_push(self, result):
        frame = result["frame"]
        assert list(frame["stages"]) == [*STAGES, OTHER]
        assert all(numbers["mean_ms"] > 0 for numbers in frame["stages"].values())
        total = sum(numbers["mean_ms"] for numbers in frame["stages"].values())
        assert total == pytest.approx(frame["sum"]["mean_ms"])
        # the engine's own clock runs inside the push
        assert 0 < frame["engine_step_mean_ms"] < frame["timed_mean_ms"]

    def test_floors_stand_beside_every_stage_with_matrix_products(self, result):
        floors_ms = {name: numbers["floor_ms"] for name, numbers in result["frame"]["stages"].items()}
        assert [name for name, floor_ms in floors_ms.items() if floor_ms is None] == ["preprocess", OTHER]
        assert result["frame"]["floor_ms"] == pytest.approx(sum(f for f in floors_ms.values() if f))

    def test_first_token_rows(self, result):
        rows = result["first_token"]
        assert [(row["frames"], row["context_frames"]) for row in rows] == [(2, 2), (4, 4)]
        assert all(row[f"{way}_ms"] > 0 for row in rows for way in ("cached", "prefill", "recompute"))
        assert all(row["cached_floor_ms"] < row["prefill_floor_ms"] < row["recompute_floor_ms"] for row in rows)

    def test_memory_rows(self, result):
        memory = result["memory"]
        assert [(row["frames"], row["kept_frames"]) for row in memory["rows"]] == [(2, 2), (3, 3), (4, 4), (6, 6)]
        assert all(row["rss_bytes"] > row["engine_bytes"] > 0 for row in memory["rows"])
        assert set(memory["growth_percent"]) == {"rss_bytes", "engine_bytes", "engine_peak_bytes"}

    def test_tables_show_it_all(self, result):
        text = report.markdown(result)
        for name in (*STAGES, OTHER, "cached prefix", "frames a second", result["machine"]["cpu"]):
            assert name in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--memory-frames 50 --memory-since 100", "memory_frames must be more than memory_since 100, got 50"),
        ("--frames 0 4", "must be at least 1"),
        ("--model tiny-randon", "tiny-random"),
    ],
)
def test_bad_arguments_are_refused(capsys, arguments, says):
    with pytest.raises(SystemExit):
        main(arguments.split())
    assert says in capsys.readouterr().err


def test_the_plan_as_required():
    assert Plan() == Plan((8, 32, 128, 512), memory_since=100, memory_frames=2000)


class TestStages:
    def test_nested_time_counts_once(self):
        now = iter(range(100))
        clock = StageClock(lambda: None, clock=lambda: float(next(now)))
        # begins: 0, 1, 3, 5; ends: 2, 4, 6, 7
        with clock.stage("outer"):
            with clock.stage("inner"):
                pass
            with clock.stage("inner"):
                pass
            with clock.stage("outer"):
                pass
        assert clock.take_ms() == {"inner": 2000, "outer": 5000}
        assert clock.take_ms() == {}

    def test_waits_for_the_device_at_both_ends(self):
        waits = []
        with StageClock(lambda: waits.append("wait")).stage("any"):
            waits.append("work")
        assert waits == ["wait", "work", "wait"]

    def test_timers_change_nothing_and_go_away(self, model, make_frame):
        plain, timed = StreamEngine(model, StreamConfig()), StreamEngine(model, StreamConfig())
        before = {id(module): set(vars(module)) for module in model.modules()}
        clock = StageClock(lambda: None)
        with timed_stages(timed, clock):
            for index in range(3):
                timed.push(make_frame(index))
        assert set(clock.take_ms()) == {*STAGES, OTHER}
        timed.push(make_frame(3))
        assert clock.take_ms() == {}
        assert {id(module): set(vars(module)) for module in model.modules()} == before
        for index in range(4):
            plain.push(make_frame(index))
        for one, other in zip(plain._memory.frames(), timed._memory.frames(), strict=True):
            assert torch.equal(one.tokens, other.tokens)


class TestFirstToken:
    """What each way of asking runs: counted with hooks on the model, not with a clock."""

    @contextmanager
    def counted(self, model):
        runs = {"images": 0, "tokens": 0}

        def on_image(module, args):
            runs["images"] += len(args[0])

        def on_tokens(module, args, kwargs):
            runs["tokens"] += kwargs["inputs_embeds"].shape[1]

        hooks = [
            model.siglip.register_forward_pre_hook(on_image),
            model.language.qwen.model.register_forward_pre_hook(on_tokens, with_kwargs=True),
        ]
        yield runs
        for hook in hooks:
            hook.remove()

    @pytest.fixture
    def seen(self, model, make_frame):
        engine, frames = StreamEngine(model, StreamConfig()), [make_frame(index) for index in range(5)]
        for frame in frames:
            engine.push(frame)
        return engine, frames

    @pytest.fixture
    def fresh(self, model):
        return StreamEngine(model, StreamConfig(memory_policy="resample"))

    def test_three_ways(self, model, seen, fresh):
        engine, frames = seen
        context = len(prefix_ids(engine.tokenizer)) + 5 * model.config.tokens_per_frame
        with self.counted(model) as cached:
            first_token_ms(engine)
        question = cached["tokens"]
        assert cached == {"images": 0, "tokens": question}
        with self.counted(model) as again:
            recompute_ms(fresh, frames)
        assert again == {"images": 5, "tokens": context + question}
        with self.counted(model) as all_three:
            ask_three_ways(engine, fresh, frames)
        # cached: the question; prefill and recompute: everything
        assert all_three == {"images": 5, "tokens": 3 * question + 2 * context}

    def test_encoding_again_gives_the_same_tokens(self, seen, fresh):
        engine, frames = seen
        recompute_ms(fresh, frames)
        for one, other in zip(engine._memory.frames(), fresh._memory.context(), strict=True):
            assert torch.equal(one.tokens, other.tokens)

    def test_rows_say_what_was_asked_of_what(self, model, make_frame):
        rows = measure_first_token(model, StreamConfig(max_frames=2), make_frame, (1, 4), 1, lambda: None)
        assert [(row["frames"], row["context_frames"]) for row in rows] == [(1, 1), (4, 2)]
        per_frame = model.config.tokens_per_frame
        assert rows[1]["context_tokens"] - rows[0]["context_tokens"] == per_frame
        engine = StreamEngine(model, StreamConfig())
        engine.push(make_frame(0))
        with self.counted(model) as cached:
            first_token_ms(engine)
        assert {row["question_tokens"] for row in rows} == {cached["tokens"]}


class TestReport:
    def test_growth_is_counted_from_the_given_row_to_the_last(self):
        rows = [
            {"frames": 10, "kept_frames": 1, "rss_bytes": 50, "engine_bytes": 5},
            {"frames": 100, "kept_frames": 1, "rss_bytes": 100, "engine_bytes": 8},
            {"frames": 200, "kept_frames": 1, "rss_bytes": 101, "engine_bytes": 6},
        ]
        assert growth_percent(rows, 100) == pytest.approx({"rss_bytes": 1, "engine_bytes": -25})

    def test_targets_are_met_or_missed(self):
        result = {
            "frame": {"frames_per_s": 9.0},
            "first_token": [
                {"frames": 32, "cached_ms": 5.0, "prefill_ms": 60.0},
                {"frames": 512, "cached_ms": 6.0, "prefill_ms": 60.0},
            ],
            "memory": {"rows": [{"frames": 2000}], "since": 100, "growth_percent": {"engine_bytes": 9, "rss_bytes": 0}},
        }
        met = {row["name"]: row["met"] for row in report.targets(result)}
        assert met == {
            "frames a second": False,
            "first token without the cache / with it, 32 frames": True,
            "first token after 512 frames / after 32": False,
            "growth of RSS, frame 100 to 2000": True,
        }

    def test_table_lines_up(self):
        lines = markdown_table(("stage", "ms"), [("SigLIP", 1234.5), ("a", None)]).splitlines()
        assert lines == ["| stage  |    ms |", "| :----- | ----: |", "| SigLIP | 1,234 |", "| a      |     - |"]

    @pytest.mark.parametrize(
        ("value", "shown"), [(0.01234, "0.0123"), (0.5, "0.50"), (12.34, "12.3"), (0.0, "0.00"), (7, "7"), ("x", "x")]
    )
    def test_numbers_are_short(self, value, shown):
        assert show(value) == shown

    def test_json_is_written_whole_or_not_at_all(self, tmp_path):
        path = tmp_path / "result.json"
        write_json(path, {"old": 1})
        with pytest.raises(TypeError):
            write_json(path, {"new": object()})
        assert json.loads(path.read_text()) == {"old": 1}
        assert list(tmp_path.iterdir()) == [path]
