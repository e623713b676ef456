"""The full model has the published numbers of parameters, and the memory table is made of them."""

from __future__ import annotations

import pytest

from benchmarks.memory_table import lora_count, main, parameter_counts, stream_bytes, table, weight_bytes
from vlm3r_core.checkpoint.saved import skeleton
from vlm3r_core.config import VLM3R_7B, StreamConfig
from vlm3r_core.loading import load
from vlm3r_core.stream.engine import StreamEngine


@pytest.fixture(scope="module")
def full():
    return skeleton(VLM3R_7B)


def test_published_parameter_counts(full):
    """The base's from the bytes of its published bfloat16 tensors, its projector superseded by one of equal size."""
    counts = parameter_counts(full)
    assert counts["fusion"] == 9_747_456
    assert counts["projector"] == 16_980_992
    assert counts["cut3r"] == 793_307_858
    base = sum(counts[part] for part in ("language", "siglip", "projector", "image_newline"))
    assert base == 16_060_697_664 // 2
    assert lora_count(full) == 322_961_408
    assert lora_count(full) + counts["fusion"] + counts["projector"] == 349_689_856


def test_bytes_of_the_weights(full):
    bf16, int8, int4 = (sum(weight_bytes(full, quantize).values()) for quantize in (None, "int8", "int4"))
    assert bf16 == 2 * sum(parameter_counts(full).values())
    linear = 28 * (3584 * 3584 * 2 + 3584 * 512 * 2 + 3 * 3584 * 18944)
    assert bf16 - int8 == pytest.approx(linear, rel=1e-3)
    # 4.5 and 16 bits: 4 of the number, a scale and a zero of 16 for 64 of them
    assert bf16 - int4 == linear * 2 - linear * 4.5 / 8


def test_cache_is_the_one_an_engine_makes():
    """A token of vlm3r-7b takes 57,344 bytes; the tiny preset's cache in float32 is twice that computed in bfloat16."""
    (cache, *_) = stream_bytes(VLM3R_7B, StreamConfig()).items()
    assert cache[1] == (64 + 6720 + 2048) * 57_344
    model = load("tiny-random", "cpu", "float32")
    engine = StreamEngine(model, StreamConfig())
    (computed, *_) = stream_bytes(model.config, StreamConfig()).values()
    assert engine.stats().memory_bytes == pytest.approx(2 * computed, rel=0.2)


def test_24_gb_suffice_in_bf16(full):
    held = sum(stream_bytes(VLM3R_7B, StreamConfig()).values())
    assert sum(weight_bytes(full, None).values()) + held < 21e9


def test_table_is_printed(capsys):
    assert main(["--frames", "32"]) == 0
    said = capsys.readouterr().out
    assert said.strip() == table()
    assert all(word in said for word in ("bf16", "int8", "int4", "together", "prefix cache, 8,832 tokens"))
