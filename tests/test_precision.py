"""Convolutions on CUDA: float32 unless the user allows less. The settings can be read where there is no GPU, too."""

import pytest
import torch
from torch import nn

from oodkit import GenerativeModel, ModelOptions, create_detector, load_images, train_model
from oodkit.device import float32_convolutions

IMAGES = load_images("noise", limit=12)


@pytest.fixture
def torch_defaults():
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True


class Watched(GenerativeModel):
    """Notes what convolutions may do while it is asked."""

    def __init__(self):
        super().__init__((1, 32, 32), ModelOptions())
        self.layer = nn.Linear(1, 1)
        self.seen = set()

    def log_prob(self, images):
        self.seen.add(torch.backends.cudnn.allow_tf32)
        return -self.layer(images.float().mean((2, 3)) / 255).square().sum(1)


@pytest.mark.parametrize(("precision", "allowed"), [("highest", False), ("high", True)])
def test_training_fitting_and_scoring_take_the_precision_of_matrix_products(torch_defaults, precision, allowed):
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32 = not allowed
    model = Watched()
    train_model(model, IMAGES, epochs=1)
    detector = create_detector("rose-identity", model).fit(IMAGES)
    detector.score(IMAGES)
    detector.explain(IMAGES)
    assert model.seen == {allowed}
    assert torch.backends.cudnn.allow_tf32 == (not allowed)  # as it was


def test_it_is_undone_on_an_error(torch_defaults):
    with pytest.raises(ZeroDivisionError), float32_convolutions():
        assert not torch.backends.cudnn.allow_tf32
        raise ZeroDivisionError
    assert torch.backends.cudnn.allow_tf32
