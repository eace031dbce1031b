"""Positions in several dimensions are those of the reference, however prompts are divided and slots moved."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import Qwen2VLConfig
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLModel

from workers.torch_worker.rotary_positions import RotaryPositions
from workers.torch_worker.span import Span

GRIDS = ((3, 5), (4, 2))
"""Rows and columns of two pictures."""
FIRST = {grid: -2 - 100 * number for number, grid in enumerate(GRIDS)}
CPU = torch.device("cpu")


def names(grid):
    return [FIRST[grid] - index for index in range(grid[0] * grid[1])]


PROMPT = [7, 8, 9, *names(GRIDS[0]), 10, *names(GRIDS[1]), 11, 12, 13]


def place(token):
    for grid in GRIDS:
        if token in names(grid):
            return divmod(names(grid).index(token), grid[1])
    raise KeyError(token)


@pytest.fixture
def positions():
    return RotaryPositions(3, 64, place, CPU)


@pytest.fixture(scope="module")
def expected():
    config = Qwen2VLConfig(vision_config={"depth": 1}, text_config={"num_hidden_layers": 1})
    with torch.device("meta"):
        model = Qwen2VLModel(config)
    ids = torch.tensor([[max(token, 0) for token in PROMPT]])
    kinds = torch.tensor([[int(token < 0) for token in PROMPT]])
    grids = torch.tensor([[1, 2 * rows, 2 * columns] for rows, columns in GRIDS])
    found, _ = model.get_rope_index(ids, kinds, grids)
    return found[:, 0].numpy()


@pytest.mark.parametrize("chunk", [1, 4, 7, len(PROMPT)])
def test_a_divided_prompt(positions, expected, chunk):
    for start in range(0, len(PROMPT), chunk):
        tokens = PROMPT[start : start + chunk]
        taken = positions.take([Span(0, start, tokens, 0)], chunk)
        np.testing.assert_array_equal(taken[:, 0, : len(tokens)], expected[:, start : start + chunk])


def test_slots_that_are_moved_and_copied(positions, expected):
    positions.take([Span(0, 0, PROMPT[:9], 0)], 9)
    positions.copy(0, 1, 0, 9)
    positions.take([Span(0, 9, [5], 0)], 1)
    positions.swap(1, 2)
    rest = PROMPT[9:]
    taken = positions.take([Span(1, 0, [4], 0), Span(2, 9, rest, 0)], len(rest))
    assert not taken[:, 0].any()
    np.testing.assert_array_equal(taken[:, 1], expected[:, 9:])
