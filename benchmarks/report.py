"""A benchmark result as Markdown tables, and its targets met or missed. Measures nothing."""

from __future__ import annotations

from benchmarks.machine import machine_line
from benchmarks.stages import OTHER
from benchmarks.tables import markdown_table, show

_MIB = 2**20


def markdown(result: dict) -> str:
    """All tables of a result of bench_stream."""
    machine = result["machine"]
    caption = (
        f"Model {result['model']}, {result['dtype']} on {result['device']}. Machine: {machine_line(machine)}; "
        f"measured peaks {machine['peak_gflops']:,.0f} GFLOP/s, {machine['peak_gb_per_s']:,.1f} GB/s."
    )
    parts = [caption, _frame_part(result["frame"]), _first_token_part(result["first_token"])]
    return "\n\n".join([*parts, _memory_part(result["memory"]), _targets_part(result["targets"])])


def targets(result: dict) -> list[dict]:
    """What the stream should reach on a small machine with the tiny preset, with the measured values.

    Returns:
        A row each: name, value, limit, unit, met; a target whose frames were not measured is left out.
    """
    rows = [_target("frames a second", result["frame"]["frames_per_s"], 10, "1/s", at_least=True)]
    by_frames = {row["frames"]: row for row in result["first_token"]}
    if 32 in by_frames:
        ratio = by_frames[32]["prefill_ms"] / by_frames[32]["cached_ms"]
        rows.append(_target("first token without the cache / with it, 32 frames", ratio, 10, "x", at_least=True))
    if {32, 512} <= by_frames.keys():
        ratio = by_frames[512]["cached_ms"] / by_frames[32]["cached_ms"]
        # Ten percent stand for the spread of a median.
        rows.append(_target("first token after 512 frames / after 32", ratio, 1.1, "x", at_least=False))
    memory = result["memory"]
    for name, percent in memory["growth_percent"].items():
        if name != "engine_bytes":
            label = f"growth of {_label(name)}, frame {memory['since']} to {memory['rows'][-1]['frames']}"
            rows.append(_target(label, percent, 1, "%", at_least=False))
    return rows


def _target(name: str, value: float, limit: float, unit: str, *, at_least: bool) -> dict:
    met = value >= limit if at_least else value <= limit
    return {"name": name, "value": value, "limit": limit, "at_least": at_least, "unit": unit, "met": met}


def _frame_part(frame: dict) -> str:
    rows = [_stage_row(name, numbers, numbers["floor_ms"]) for name, numbers in frame["stages"].items()]
    rows.append(_stage_row("sum", frame["sum"], frame["floor_ms"]))
    rows.append(_stage_row("push, no timers inside", frame["push"], frame["floor_ms"]))
    gap = frame["timed_mean_ms"] - frame["engine_step_mean_ms"]
    return (
        f"One frame, {frame['frames']} frames, up to 32 in context: {frame['frames_per_s']:.1f} frames/s. "
        f"'{OTHER}' is what the stages leave of a push; the engine's own step time differs from the sum by "
        f"{gap:.3f} ms.\n\n"
    ) + markdown_table(("stage", "median ms", "p95 ms", "mean ms", "floor ms", "median / floor"), rows)


def _stage_row(name: str, numbers: dict, floor_ms: float | None) -> list:
    ratio = numbers["median_ms"] / floor_ms if floor_ms else None
    return [name, numbers["median_ms"], numbers["p95_ms"], numbers["mean_ms"], floor_ms, ratio]


def _first_token_part(questions: list[dict]) -> str:
    header = (
        "frames seen",
        "in context",
        "(a) cached prefix ms",
        "(b) prefill again ms",
        "(c) encode again ms",
        "b / a",
        "c / a",
        "floor a ms",
        "floor b ms",
        "floor c ms",
    )
    rows = [
        [
            str(row["frames"]),
            str(row["context_frames"]),
            *[row[f"{way}_ms"] for way in ("cached", "prefill", "recompute")],
            row["prefill_ms"] / row["cached_ms"],
            row["recompute_ms"] / row["cached_ms"],
            *[row[f"{way}_floor_ms"] for way in ("cached", "prefill", "recompute")],
        ]
        for row in questions
    ]
    tokens = questions[0]["question_tokens"]
    caption = f"Time to first token of a question of {tokens} tokens: (a) as served, (b) visual tokens kept but prefix "
    return f"{caption}run again, (c) the context's frames encoded again.\n\n" + markdown_table(header, rows)


def _memory_part(memory: dict) -> str:
    kinds = [name for name in memory["rows"][0] if name.endswith("_bytes")]
    rows = [
        [f"{row['frames']:,}", str(row["kept_frames"]), *[f"{row[name] / _MIB:.2f}" for name in kinds]]
        for row in memory["rows"]
    ]
    growth = ", ".join(f"{_label(name)} {percent:+.2f} %" for name, percent in memory["growth_percent"].items())
    caption = f"Memory. Growth from frame {memory['since']} to {memory['rows'][-1]['frames']}: {growth}.\n\n"
    return caption + markdown_table(("frames", "kept", *[f"{_label(name)} MiB" for name in kinds]), rows)


def _targets_part(rows: list[dict]) -> str:
    cells = [
        [
            row["name"],
            f"{show(row['value'])} {row['unit']}",
            f"{'>=' if row['at_least'] else '<='} {show(row['limit'])} {row['unit']}",
            "met" if row["met"] else "missed",
        ]
        for row in rows
    ]
    return markdown_table(("target (tiny preset, 2 CPU cores)", "measured", "wanted", ""), cells)


def _label(name: str) -> str:
    names = {
        "engine_bytes": "engine",
        "engine_peak_bytes": "engine peak",
        "rss_bytes": "RSS",
        "cuda_bytes": "GPU",
        "cuda_peak_bytes": "GPU peak",
    }
    return names[name]
