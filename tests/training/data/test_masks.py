from __future__ import annotations

import pytest
import torch

from training.data.masks import patch_mask


def cxcywh(x1, y1, x2, y2):
    return [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]


@pytest.mark.parametrize("grid", [(16, 16), (8, 8), (14, 14), (5, 9)])
def test_a_patch_is_marked_when_any_pixel_of_it_lies_in_the_box(grid):
    rows, columns = grid
    patch = 7
    height, width = rows * patch, columns * patch
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        x = torch.randint(0, width + 1, (2,), generator=generator).sort().values.tolist()
        y = torch.randint(0, height + 1, (2,), generator=generator).sort().values.tolist()
        if x[0] == x[1] or y[0] == y[1]:
            continue
        pixels = torch.zeros(height, width, dtype=torch.bool)
        pixels[y[0] : y[1], x[0] : x[1]] = True
        expected = pixels.view(rows, patch, columns, patch).any(3).any(1).flatten()
        box = torch.tensor([cxcywh(x[0] / width, y[0] / height, x[1] / width, y[1] / height)])
        assert torch.equal(patch_mask(box, torch.tensor([True]), grid)[0], expected)


def test_a_box_on_patch_edges_marks_no_neighbour_and_a_row_without_box_nothing():
    box = torch.tensor([cxcywh(0.25, 0.5, 0.5, 0.75), [0.0] * 4, cxcywh(0, 0, 1, 1)])
    mask = patch_mask(box, torch.tensor([True, False, True]), (4, 4))
    assert mask[0].nonzero().flatten().tolist() == [2 * 4 + 1]
    assert not mask[1].any() and mask[2].all()
    assert not patch_mask(box, torch.zeros(3, dtype=torch.bool), (4, 4)).any()


def test_a_box_that_reaches_a_thousandth_of_a_patch_further_marks_the_neighbour():
    over, edge = 1e-3 / 4, 0.5
    box = torch.tensor([cxcywh(0.25 - over, 0.5, edge, 0.75), cxcywh(0.25, 0.5, edge + over, 0.75 + over)])
    mask = patch_mask(box, torch.ones(2, dtype=torch.bool), (4, 4))
    assert mask[0].nonzero().flatten().tolist() == [2 * 4, 2 * 4 + 1]
    assert mask[1].nonzero().flatten().tolist() == [2 * 4 + 1, 2 * 4 + 2, 3 * 4 + 1, 3 * 4 + 2]
