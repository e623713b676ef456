"""2D rotary embedding: angles, signs, precision, positions."""

import math

import pytest
import torch

from vlm3r_core.config import Cut3rConfig
from vlm3r_core.model.rope import grid_positions, rotary_table, rotary_tables, rotate, state_positions

BASE = 100.0
# float32 sums of two products of numbers below 4
FLOAT32 = {"rtol": 0, "atol": 2e-6}


def by_the_book(x, positions, base):
    """Rotates [P, d] number by number in Python floats."""
    out = torch.empty_like(x, dtype=torch.float64)
    quarter = x.shape[-1] // 4
    for token, position in enumerate(positions.tolist()):
        for half, place in enumerate(position):
            for k in range(quarter):
                angle = place * base ** (-k / quarter)
                low = 2 * half * quarter + k
                u, v = float(x[token, low]), float(x[token, low + quarter])
                out[token, low] = u * math.cos(angle) - v * math.sin(angle)
                out[token, low + quarter] = v * math.cos(angle) + u * math.sin(angle)
    return out.float()


def test_pose_position_is_a_real_rotation():
    table = rotary_table(torch.tensor([[-1, -1]]), 4, BASE)
    rotated = rotate(torch.tensor([[1.0, 0.0, 1.0, 0.0]]), table)
    torch.testing.assert_close(rotated, torch.tensor([[0.540302, -0.841471, 0.540302, -0.841471]]), **FLOAT32)


@pytest.mark.parametrize("head_dim", [4, 16, 48])
def test_every_element_turns_by_its_angle(head_dim):
    torch.manual_seed(0)
    positions = torch.tensor([[-1, -1], [0, 0], [0, 5], [5, 0], [26, 13]])
    x = torch.randn(5, head_dim)
    torch.testing.assert_close(
        rotate(x, rotary_table(positions, head_dim, BASE)), by_the_book(x, positions, BASE), rtol=0, atol=2e-5
    )


def test_opposite_positions_undo_each_other():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 6, 8)
    positions = torch.randint(-9, 9, (6, 2))
    there = rotate(x, rotary_table(positions, 8, BASE))
    assert not torch.allclose(there, x, atol=0.1)
    torch.testing.assert_close(rotate(there, rotary_table(-positions, 8, BASE)), x, **FLOAT32)


def test_logits_depend_on_distance_only():
    torch.manual_seed(0)
    q, k = torch.randn(1, 16), torch.randn(1, 16)

    def logit(at_q, at_k):
        return (rotate(q, rotary_table(at_q, 16, BASE)) * rotate(k, rotary_table(at_k, 16, BASE))).sum()

    here = logit(torch.tensor([[3, 7]]), torch.tensor([[-1, 2]]))
    there = logit(torch.tensor([[13, 5]]), torch.tensor([[9, 0]]))
    # angles up to 13 rad carry float32 errors of 1e-6 each
    torch.testing.assert_close(here, there, rtol=0, atol=2e-5)


def test_half_rounding_rounds_before_and_after():
    torch.manual_seed(0)
    x, table = torch.randn(5, 16), rotary_table(torch.randint(0, 20, (5, 2)), 16, BASE)
    rounded = rotate(x, table, half_rounding=True)
    assert rounded.dtype == torch.float32
    assert torch.equal(rounded, rotate(x.half().float(), table).half().float())
    assert not torch.equal(rounded, rotate(x, table))
    assert not torch.equal(rounded, rotate(x, table).half().float())


def test_half_precision_turns_in_float32():
    torch.manual_seed(0)
    x, table = torch.randn(5, 16).bfloat16(), rotary_table(torch.randint(0, 30, (5, 2)), 16, BASE)
    rotated = rotate(x, table)
    assert rotated.dtype == torch.bfloat16
    assert torch.equal(rotated, rotate(x.float(), table).bfloat16())


def test_table_stays_float32_under_a_half_default():
    torch.set_default_dtype(torch.bfloat16)
    try:
        table = rotary_table(torch.tensor([[7, 300]]), 8, BASE)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(table.cos, rotary_table(torch.tensor([[7, 300]]), 8, BASE).cos)


def test_head_width_must_be_quartered():
    with pytest.raises(ValueError, match=r"divisible by 4, got 6; choose another head count"):
        rotary_table(torch.tensor([[0, 0]]), 6, BASE)


def test_grid_is_row_major():
    assert grid_positions(2, 3).tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]


@pytest.mark.parametrize(("count", "width"), [(768, 28), (324, 18), (16, 4), (20, 4), (27, 6), (30, 6)])
def test_state_fills_rows_of_an_even_width(count, width):
    positions = state_positions(count, "2d")
    assert positions.tolist() == [[i // width, i % width] for i in range(count)]


def test_state_in_one_dimension():
    assert state_positions(3, "1d").tolist() == [[0, 0], [1, 1], [2, 2]]


def test_tables_put_the_pose_token_first_and_are_made_once():
    config, cpu = Cut3rConfig(), torch.device("cpu")
    tables = rotary_tables(config, (3, 5), cpu)
    assert rotary_tables(config, (3, 5), cpu) is tables
    assert tables.encoder.cos.shape == (15, 64)
    assert [table.cos.shape for table in tables.image_heads] == [(16, 64), (768, 64)]
    assert [table.cos.shape for table in tables.state_heads] == [(16, 48), (768, 48)]
    assert torch.equal(tables.image_heads[0].cos[:1], rotary_table(torch.tensor([[-1, -1]]), 64, BASE).cos)


def test_tables_made_in_inference_mode_serve_training():
    with torch.inference_mode():
        table = rotary_tables(Cut3rConfig(), (7, 3), torch.device("cpu")).encoder
    x = torch.randn(21, 64, requires_grad=True)
    rotate(x, table).square().sum().backward()
    # a rotation keeps lengths, so the gradient of the squared length is 2 x
    torch.testing.assert_close(x.grad, 2 * x.detach(), rtol=0, atol=1e-5)
