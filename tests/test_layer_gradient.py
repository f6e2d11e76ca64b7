"""`LayerGradient`: what is computed from gradients that are kept factored, against the dense ones."""

import pytest
import torch
from densities import Built, Density, assert_same, log_density, random_images
from hypothesis import given, settings, strategies as st
from torch import nn

from oodkit import LayerGradient, layer_gradients

few = settings(max_examples=60, deadline=None)


def test_layers_that_see_the_same_are_each_turned_by_their_own_matrices():
    """The two share their patches, and the last product with these."""

    def log_prob(model, x):
        x = x * 1.0
        return log_density(torch.cat([model.mean(x), model.deviation(x)], 1))

    model = Built(log_prob, mean=nn.Conv2d(2, 3, (7, 6)), deviation=nn.Conv2d(2, 3, (7, 6)))
    mean, deviation = layer_gradients(model, random_images()).values()
    first, second = torch.randn(2, 4, 85, dtype=torch.float64)
    eye = torch.eye(3).double()
    for gradient, turn in [(mean, first), (deviation, first), (deviation, second), (mean, first)]:
        for part in (gradient, gradient.double(), *gradient.split(2), *gradient.double().split(2)):
            assert_same(part.between(eye, turn).dense(), part.dense() @ turn.T)
    # one product serves both, for as long as neither asks for another
    for one, other in [(mean, deviation), (mean.double(), deviation.double())]:
        assert one.between(eye, first).inputs.data_ptr() == other.between(eye, first.clone()).inputs.data_ptr()


@pytest.mark.parametrize(
    "differs",
    [{}, {"kernel_size": (3, 2)}, {"stride": 3}, {"dilation": 2}, {"padding": 1}, {"bias": False}],
    ids=str,
)
@pytest.mark.parametrize(
    "seen",
    [lambda x: x, lambda x: x.square(), lambda x: x.mT, lambda x: x[:, :, 2:], lambda x: x[:, :, :-2]],
    ids=["the same", "other numbers", "in another order", "from another row on", "fewer rows"],
)
def test_what_layers_share_changes_nothing(differs, seen):
    """Two that see the same in the same way share a product; these two differ in what they see or how, or do not."""
    settings = {"kernel_size": (2, 3), "stride": 2}
    first, second = nn.Conv2d(2, 20, **settings), nn.Conv2d(2, 20, **{**settings, **differs})
    model = Built(lambda m, x: log_density(m.first(x)) + log_density(m.second(seen(x))), first=first, second=second)
    images = random_images(height=6)
    for name, gradient in layer_gradients(model, images).items():
        alone = layer_gradients(model, images, [name])[name].dense()
        assert_same(gradient.dense(), alone)
        turn = torch.arange(4.0 * alone.shape[2], dtype=torch.float64).view(4, -1).cos()
        assert_same(gradient.between(torch.eye(20).double(), turn).dense(), alone @ turn.T)


def test_a_layer_that_shares_nothing_keeps_no_product():
    gradient = layer_gradients(Density(nn.Conv2d(2, 20, 5)), random_images())["layer"]
    left, right = torch.eye(20).double(), torch.randn(4, 51, dtype=torch.float64)
    one, other = gradient.between(left, right), gradient.between(left, right)
    assert one.inputs.data_ptr() != other.inputs.data_ptr()


def test_in_float64_nothing_is_left_of_a_product_in_float32():
    def log_prob(model, x):
        return log_density(torch.cat([model.mean(x), model.deviation(x)], 1))

    model = Built(log_prob, mean=nn.Conv2d(2, 3, (7, 6)), deviation=nn.Conv2d(2, 3, (7, 6))).float()
    left, right = torch.eye(3), torch.randn(4, 85)
    for gradient in layer_gradients(model, random_images()).values():
        gradient.between(left, right)
        exact = gradient.double()
        assert exact.inputs.dtype == exact.outputs.dtype == torch.float64
        assert_same(exact.inputs.float(), gradient.inputs)
        turned = exact.between(left.double(), right.double())
        assert_same(turned.dense(), exact.dense() @ right.double().T)


@pytest.mark.parametrize(
    ("positions", "outputs", "inputs", "kept"),
    [
        (4, 4, 4, True),  # as many positions as a square layer has rows: the same number of multiplications
        (5, 4, 4, False),
        (2, 2, 3, True),  # 26 multiplications for the factors, 30 for their sum
        (3, 2, 3, False),  # 39 and 30
        (2, 3, 2, True),
        (3, 3, 2, False),
        (1, 1, 9, True),  # 82 and 90
        (2, 1, 9, False),  # 164 and 90
        (1, 9, 1, True),
        (2, 9, 1, False),
    ],
)
def test_the_factors_are_turned_or_their_sum_whichever_takes_fewer_multiplications(positions, outputs, inputs, kept):
    gradient = LayerGradient(torch.randn(2, positions, inputs), torch.randn(2, positions, outputs))
    assert gradient.between(torch.eye(outputs), torch.eye(inputs)).factored == kept


@pytest.mark.parametrize(
    "settings",
    [{"kernel_size": 3, "padding": 2}, {"kernel_size": (3, 2), "padding": (0, 1), "bias": False}, {"kernel_size": 2}],
    ids=str,
)
def test_a_convolution_holds_its_images_once_whatever_its_padding(settings):
    images = random_images()
    gradient = layer_gradients(Density(nn.Conv2d(2, 3, **settings)), images)["layer"]
    assert gradient.nbytes == 8 * images.numel() + gradient.outputs.nbytes


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 4, "stride": 3, "padding": 1},
        {"kernel_size": (2, 3), "stride": (2, 1), "dilation": (3, 2)},
        {"kernel_size": 3, "padding": (0, 1), "stride": 2, "padding_mode": "circular"},
        {"kernel_size": (7, 6)},
        {"kernel_size": (7, 6), "padding": 1},
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_where_positions_are_few_patches_are_turned_without_being_gathered(settings, bias):
    """Twenty outputs and fewer positions: the factors are turned, not their product."""
    model = Density(nn.Conv2d(2, 20, **settings, bias=bias))
    gradient = layer_gradients(model, random_images())["layer"]
    left, right = (torch.randn(4, size, dtype=torch.float64) for size in gradient.shape[2:])
    turned = gradient.between(left, right)
    assert turned.shape[:2] == gradient.shape[:2]
    assert_same(turned.dense(), left @ gradient.dense() @ right.T)


@few
@given(n=st.integers(1, 3), s=st.integers(1, 4), o=st.integers(1, 4), i=st.integers(1, 4), seed=st.integers(0, 99))
def test_factored_forms_agree_with_the_dense_gradient(n, s, o, i, seed):
    generator = torch.Generator().manual_seed(seed)
    inputs, outputs, weight = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in [(n, s, i), (n, s, o), (o, i)]
    )
    dense = torch.stack(
        [sum(torch.outer(d, h) for d, h in zip(*pair, strict=True)) for pair in zip(outputs, inputs, strict=True)]
    )
    factored = LayerGradient(inputs, outputs)
    for gradient in (factored, LayerGradient.from_dense(dense)):
        assert_same(gradient.dense(), dense)
        assert_same(gradient.sum_of_squares(), (dense**2).sum(0))
        assert_same(gradient.weighted_squares(weight), (dense**2 * weight).sum((1, 2)))
        assert_same(gradient.squared_norm(), (dense**2).sum((1, 2)))
    assert LayerGradient.from_dense(dense).inputs.shape[1] == min(o, i)
    assert_same(torch.cat([part.dense() for part in factored.split(2)]), dense)


def test_the_sums_of_dense_gradients_too_wide_to_be_made_at_once():
    """A dense gradient is as large as what a thread makes at a time: there are more images than threads."""
    n, o, i = torch.get_num_threads() + 2, 725, 724
    gradient = LayerGradient(torch.randn(n, 2, i), torch.randn(n, 2, o)).double()
    squares = torch.zeros(o, i, dtype=torch.float64)
    for part in gradient.split(1):
        squares += part.dense()[0] ** 2
    assert_same(gradient.sum_of_squares(), squares)
    weight = torch.rand(o, i, dtype=torch.float64)
    assert_same(gradient.weighted_squares(weight).sum(), (squares * weight).sum())
    assert_same(gradient.squared_norm().sum(), squares.sum())
    assert gradient.weighted_squares(weight).shape == gradient.squared_norm().shape == (n,)


@pytest.mark.parametrize(
    ("n", "most", "sizes"),
    [(5, 1, [1] * 5), (6, 3, [3, 3]), (7, 3, [3, 3, 1]), (4, 4, [4]), (4, 9, [4]), (9, 8, [5, 4])],
)
def test_parts_are_as_few_as_can_be_and_of_like_sizes(n, most, sizes):
    gradient = LayerGradient(torch.randn(n, 2, 3), torch.randn(n, 2, 4))
    parts = gradient.split(most)
    assert [len(part.outputs) for part in parts] == sizes
    assert_same(torch.cat([part.dense() for part in parts]), gradient.dense())


def test_parts_take_16_mb_unless_said_otherwise():
    wide = LayerGradient(torch.zeros(1).expand(10, 2**10, 1000), torch.zeros(1).expand(10, 2**10, 24))  # 4 MB an image
    assert [len(part.outputs) for part in wide.split()] == [4, 4, 2]
