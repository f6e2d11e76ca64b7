"""What a curvature plugin learns is kept: real numbers in the model's precision, others as they are."""

import pytest
import torch
from torch import nn

from oodkit import CurvatureApproximation, CurvatureOptions, GenerativeModel, ImageSet, ModelOptions, fit_curvature


class Ranked(CurvatureApproximation):
    """Learns the order of the squares and which are large, beside the squares themselves."""

    def sums(self, gradient, number):
        return {"squares": gradient.sum_of_squares()}

    def end_pass(self, sums, count, number):
        squares = sums["squares"].flatten()
        return {"order": squares.argsort(), "kept": squares > squares.median(), "squares": squares}

    def quadratic_form(self, gradient):
        rows = gradient.dense().flatten(1)[:, self.state["order"]]
        return rows[:, self.state["kept"]].square().sum(1)


class Linear(GenerativeModel):
    def __init__(self):
        super().__init__((1, 2, 2), ModelOptions())
        self.layer = nn.Linear(4, 3)

    def log_prob(self, images):
        return -self.layer(images.flatten(1).to(self.dtype) / 255).square().sum(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_indices_and_masks_stay_what_they_are(dtype):
    images = torch.randint(256, (9, 1, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    model, approximation = Linear().to(dtype), Ranked(CurvatureOptions())
    fit_curvature(model, ImageSet("noise", "train", images), {"layer": approximation}, batch_size=4)
    types = {key: value.dtype for key, value in approximation.state.items()}
    assert types == {"order": torch.int64, "kept": torch.bool, "squares": dtype}
