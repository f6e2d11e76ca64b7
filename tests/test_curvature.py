"""Curvature approximations against dense matrices, against kronfluence, and against what must hold for any gradients.

Dense references write a gradient s, (O, I), as the vector of its rows; so F is (O·I, O·I) and a Kronecker product has
the outputs' side first.
"""

import copy
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn
from torch.utils.data import TensorDataset

from oodkit import (
    CurvatureApproximation,
    CurvatureOptions,
    DampingOptions,
    GenerativeModel,
    ImageError,
    ImageSet,
    LayerGradient,
    ModelOptions,
    OptionError,
    damped,
    fit_curvature,
    layer_gradients,
)
from oodkit_rose.diag import Diag
from oodkit_rose.ekfac import Ekfac
from oodkit_rose.ekfac_options import EkfacOptions
from oodkit_rose.identity import Identity

few = settings(max_examples=40, deadline=None)
KINDS = {Ekfac: EkfacOptions, Diag: DampingOptions, Identity: CurvatureOptions}
shapes = st.fixed_dictionaries(
    {"n": st.integers(1, 6), "s": st.integers(1, 12), "o": st.integers(1, 4), "i": st.integers(1, 5)}
)
seeds = st.integers(0, 99)


def random_gradient(n, s, o, i, seed=0):
    """Return gradients that are correlated among inputs and among outputs: no basis is right by chance."""
    generator = torch.Generator().manual_seed(seed)
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    return LayerGradient(draw(n, s, i) @ draw(i, i), draw(n, s, o) @ draw(o, o))


def fitted(kind, gradient, **options):
    approximation = kind(KINDS[kind](**options))
    for number in range(kind.passes):
        sums = approximation.sums(gradient, number)
        approximation.state |= approximation.end_pass(sums, len(gradient.inputs), number)
    return approximation


def vectors(gradient):
    """Return the gradients as rows, (N, O·I)."""
    return gradient.dense().flatten(1).numpy()


def inverse_form(fisher, gradient):
    """Return sᵀ F⁻¹ s per image with F inverted densely."""
    return torch.from_numpy(np.einsum("na,ab,nb->n", vectors(gradient), np.linalg.inv(fisher), vectors(gradient)))


def assert_same(actual, expected, rtol=1e-7):
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=1e-12)


# --- dense references --------------------------------------------------------------------------------------------


@few
@given(shape=shapes, seed=seeds, damping=st.floats(1e-3, 10))
def test_diag_is_the_explicit_diagonal(shape, seed, damping):
    train, test = random_gradient(**shape, seed=seed), random_gradient(**shape, seed=seed + 100)
    diagonal = np.diag((vectors(train) ** 2).mean(0) + damping)
    assert_same(fitted(Diag, train, damping=damping).quadratic_form(test), inverse_form(diagonal, test))


def dense_ekfac(gradient, damping, relative):
    """Return (U_B ⊗ U_A) diag(Σ + damping) (U_B ⊗ U_A)ᵀ, eqs. (7)–(9)."""
    h, d = gradient.inputs.flatten(0, 1).numpy(), gradient.outputs.flatten(0, 1).numpy()
    basis = np.kron(np.linalg.eigh(d.T @ d).eigenvectors, np.linalg.eigh(h.T @ h).eigenvectors)
    eigenvalues = np.mean((vectors(gradient) @ basis) ** 2, 0)
    return basis @ np.diag(eigenvalues + damping + relative * eigenvalues.mean()) @ basis.T


@few
@given(shape=shapes, seed=seeds, damping=st.floats(1e-3, 10), relative=st.sampled_from([0.0, 0.1, 1.0]))
def test_ekfac_is_the_dense_matrix(shape, seed, damping, relative):
    train, test = random_gradient(**shape, seed=seed), random_gradient(**shape, seed=seed + 100)
    ekfac = fitted(Ekfac, train, damping=damping, relative_damping=relative)
    assert_same(ekfac.quadratic_form(test), inverse_form(dense_ekfac(train, damping, relative), test))


@pytest.mark.parametrize(("outputs", "inputs"), [(1, 600), (600, 1)])
def test_ekfac_is_the_dense_matrix_of_layers_wider_than_a_block_of_its_sums(outputs, inputs):
    """A and B are summed in three blocks of rows."""
    train, test = random_gradient(9, 2, outputs, inputs), random_gradient(3, 2, outputs, inputs, seed=1)
    ekfac = fitted(Ekfac, train, damping=1e-3, relative_damping=0.1)
    assert_same(ekfac.quadratic_form(test), inverse_form(dense_ekfac(train, 1e-3, 0.1), test))


@pytest.mark.parametrize("factored", [False, True])
@pytest.mark.parametrize("number", [0, 1])
def test_ekfac_s_sums_are_those_of_the_parts(number, factored):
    gradient = random_gradient(5, 2, 3, 4)
    if not factored:
        gradient = LayerGradient.from_dense(gradient.dense())
    ekfac = fitted(Ekfac, gradient)
    parts = [ekfac.sums(part.double(), number) for part in gradient.split(2)]  # as fit_curvature does
    assert len(parts) == 3
    for key, value in ekfac.sums(gradient, number).items():
        assert_same(sum(part[key] for part in parts), value)


@few
@given(inputs=st.integers(1, 4), outputs=st.integers(1, 4), more=st.integers(0, 3), seed=seeds, factored=st.booleans())
def test_ekfac_is_exact_where_f_is_a_kronecker_product(inputs, outputs, more, seed, factored):
    """Each h meets each δ once, so that E[s sᵀ] = E[δ δᵀ] ⊗ E[h hᵀ]; nothing is damped.

    A bare parameter's gradient has no h and δ: both bases are to be found in s itself.
    """
    pool = random_gradient(1, max(inputs, outputs) + more, outputs, inputs, seed)
    h, d = (pool.inputs[0], pool.outputs[0])
    train = LayerGradient(h.repeat(len(d), 1)[:, None], d.repeat_interleave(len(h), 0)[:, None])
    if not factored:
        train = LayerGradient.from_dense(train.dense())
    s = vectors(train)
    fisher = s.T @ s / len(s)
    np.testing.assert_allclose(fisher, np.kron(d.T @ d, h.T @ h) / len(s), rtol=1e-9, atol=1e-12)
    test = random_gradient(5, 3, outputs, inputs, seed + 100)
    # The condition of F is the square of that of random vectors; it costs digits on both sides.
    assert_same(fitted(Ekfac, train, damping=0).quadratic_form(test), inverse_form(fisher, test), rtol=1e-4)


@few
@given(shape=shapes, seed=seeds)
def test_identity_is_the_squared_norm(shape, seed):
    gradient = random_gradient(**shape, seed=seed)
    assert_same(fitted(Identity, gradient).quadratic_form(gradient), torch.from_numpy((vectors(gradient) ** 2).sum(1)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("inputs", "outputs"), [(5, 3), (3, 5), (1, 4), (4, 1)])
def test_a_gradient_may_come_in_many_positions_or_few(kind, inputs, outputs):
    """Silent positions change no gradient, but from some number on EKFAC rotates it after summing, not before."""
    train, test = random_gradient(9, 1, outputs, inputs), random_gradient(4, 1, outputs, inputs, seed=1)
    approximation = fitted(kind, train)
    expected = approximation.quadratic_form(test)
    for silent in (0, 1, 5, 200):
        padded = LayerGradient(*(nn.functional.pad(t, (0, 0, 0, silent)) for t in (test.inputs, test.outputs)))
        assert_same(approximation.quadratic_form(padded), expected)
    assert_same(approximation.quadratic_form(LayerGradient.from_dense(test.dense())), expected)


# --- damping -----------------------------------------------------------------------------------------------------


def test_damping_is_added_to_every_eigenvalue_and_zero_can_be_divided_by():
    eigenvalues = torch.tensor([0.0, 1.0, 5.0], dtype=torch.float64)
    assert_same(damped(eigenvalues, DampingOptions(damping=0.5)), eigenvalues + 0.5)
    assert_same(damped(eigenvalues, DampingOptions(damping=0.5, relative_damping=0.25)), eigenvalues + 0.5 + 0.25 * 2)
    for dtype in (torch.float32, torch.float64):
        zero = damped(torch.zeros(2, dtype=dtype), DampingOptions(damping=0))
        assert (1 / zero).isfinite().all()


# --- what holds for any gradients --------------------------------------------------------------------------------


@few
@given(shape=shapes, seed=seeds, kind=st.sampled_from(list(KINDS)))
def test_never_negative_and_zero_for_no_gradient(shape, seed, kind):
    approximation = fitted(kind, random_gradient(**shape, seed=seed))
    assert (approximation.quadratic_form(random_gradient(**shape, seed=seed + 100)) >= 0).all()
    silent = LayerGradient(torch.zeros(1, 1, shape["i"]).double(), torch.zeros(1, 1, shape["o"]).double())
    assert approximation.quadratic_form(silent).tolist() == [0.0]


@few
@given(shape=shapes, seed=seeds)
def test_ekfac_does_not_depend_on_the_basis_of_inputs_and_outputs(shape, seed):
    def turned(gradient):
        return LayerGradient(gradient.inputs @ turn_in, gradient.outputs @ turn_out)

    generator = torch.Generator().manual_seed(seed)
    turn_in, turn_out = (
        torch.linalg.qr(torch.randn(k, k, generator=generator, dtype=torch.float64)).Q for k in (shape["i"], shape["o"])
    )
    train, test = random_gradient(**shape, seed=seed), random_gradient(**shape, seed=seed + 100)
    expected = fitted(Ekfac, train, damping=1e-3).quadratic_form(test)
    assert_same(fitted(Ekfac, turned(train), damping=1e-3).quadratic_form(turned(test)), expected, rtol=1e-6)


@few
@given(shape=shapes, seed=seeds, kind=st.sampled_from([Ekfac, Diag]))
def test_the_mean_over_the_fitting_images_tends_to_the_number_of_nonzero_eigenvalues(shape, seed, kind):
    """Σ_j E[s_j²] / (Σ_j + λ) = Σ_j Σ_j / (Σ_j + λ): one for each eigenvalue that is not 0, less what λ takes."""
    train = random_gradient(**shape, seed=seed)
    rank = {k: min(shape[k], shape["n"] * shape["s"]) for k in "oi"} if kind is Ekfac else shape
    state = fitted(kind, train).state
    (eigenvalues,) = (v for k, v in state.items() if k in ("eigenvalues", "diagonal"))
    assert int((eigenvalues > 1e-16 * eigenvalues.max()).sum()) == rank["o"] * rank["i"]
    last = 0.0
    for damping in (1e-1, 1e-6, 1e-20 * float(eigenvalues.max())):
        mean = float(fitted(kind, train, damping=damping).quadratic_form(train).mean())
        assert last <= mean <= rank["o"] * rank["i"] + 1e-6
        last = mean
    assert last == pytest.approx(rank["o"] * rank["i"], rel=1e-3)


# --- fit_curvature, on a model -----------------------------------------------------------------------------------


class Net(GenerativeModel):
    """A convolution and a linear layer; log p = (−½‖f(x)‖² + Σ f(x)) · scale."""

    def __init__(self, dtype=torch.float64, scale=1):
        super().__init__((2, 6, 6), ModelOptions())
        self.scale = scale
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.conv = nn.Conv2d(2, 3, 2, stride=2)
            self.linear = nn.Linear(27, 4)
        self.to(dtype)

    def log_prob(self, images):
        h = self.conv(images.to(self.dtype) / 255).relu().flatten(1)
        out = self.linear(h)
        return (out - 0.5 * out.square()).sum(1) * self.scale


def random_images(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, 2, 6, 6), dtype=torch.uint8, generator=generator)


def fit_net(kind, images, batch_size=16, model=None, **options):
    layers = {name: kind(KINDS[kind](**options)) for name in ("conv", "linear")}
    fit_curvature(model or Net(), ImageSet("images", "train", images), layers, batch_size=batch_size)
    return layers


def layer_scores(layers, images, model=None):
    gradients = layer_gradients(model or Net(), images, list(layers))
    return {name: layer.quadratic_form(gradients[name]) for name, layer in layers.items()}


def test_layers_that_are_not_asked_for_are_left_alone():
    images, test = random_images(20), random_images(3, seed=1)
    both = fit_net(Diag, images)
    one = {"linear": Diag(DampingOptions())}
    fit_curvature(Net(), ImageSet("images", "train", images), one, batch_size=16)
    assert_same(layer_scores(one, test)["linear"], layer_scores(both, test)["linear"])


def test_no_layer_at_all_is_nothing_to_fit():
    fit_curvature(Net(), ImageSet("images", "train", random_images(3)), {}, batch_size=2)


@settings(max_examples=10, deadline=None)
@given(batch_size=st.integers(1, 50), order=st.permutations(range(40)), kind=st.sampled_from([Ekfac, Diag]))
def test_neither_the_order_of_the_images_nor_the_batch_size_matters(batch_size, order, kind):
    images, test = random_images(40), random_images(7, seed=1)
    expected = layer_scores(fit_net(kind, images, batch_size=40), test)
    found = layer_scores(fit_net(kind, images[list(order)], batch_size), test)
    for name, scores in expected.items():
        # 40 images leave much of the linear layer's F at 0, where only the damping, 1e-8, stands against rounding
        assert_same(found[name], scores, rtol=1e-5)


@pytest.mark.parametrize("kind", [Ekfac, Diag])
@pytest.mark.parametrize("batch_size", [4, 15])
def test_rounding_of_a_float32_model_does_not_pass_for_curvature(kind, batch_size):
    """15 images leave most of F at 0 and log p has thousands of nats: products in float32 would put 1e-6 there."""
    images, test = random_images(15), random_images(7, seed=1)
    exact, rounded = Net(scale=3000), Net(torch.float32, scale=3000)
    expected = layer_scores(fit_net(kind, images, model=exact), test, exact)
    found = layer_scores(fit_net(kind, images, batch_size, model=rounded), test, rounded)
    for name, scores in expected.items():
        assert_same(found[name].double(), scores, rtol=1e-2)


@pytest.mark.parametrize("kind", [Ekfac, Diag])
def test_fitting_in_batches_is_fitting_to_all_gradients_at_once(kind):
    images = random_images(30)
    whole = layer_gradients(Net(), images, ["conv", "linear"])
    for name, layer in fit_net(kind, images, batch_size=7, damping=1e-3).items():
        expected = fitted(kind, whole[name], damping=1e-3).quadratic_form(whole[name])
        assert_same(layer.quadratic_form(whole[name]), expected)


def test_the_state_has_the_model_s_dtype():
    for layer in fit_net(Ekfac, random_images(9), model=Net(torch.float32)).values():
        assert {t.dtype for t in layer.state.values()} == {torch.float32}


class Counting(CurvatureApproximation):
    """Learns how many images there were, and no more."""

    def sums(self, gradient, number):
        return {}

    def end_pass(self, sums, count, number):
        return {"count": torch.tensor(count)}

    def quadratic_form(self, gradient):
        return gradient.squared_norm()


def test_whole_numbers_of_the_state_stay_whole():
    layer = Counting(CurvatureOptions())
    fit_curvature(Net(), ImageSet("images", "train", random_images(9)), {"linear": layer}, batch_size=4)
    assert layer.state["count"].dtype == torch.int64 and int(layer.state["count"]) == 9


def test_gradients_that_are_not_finite_are_refused():
    model = Net()
    model.linear.weight.data[0, 0] = torch.inf
    with pytest.raises(ImageError, match=r"gradients of layer 'conv' are not finite"):
        fit_net(Diag, random_images(9), model=model)


# --- kronfluence -------------------------------------------------------------------------------------------------


@pytest.fixture
def kronfluence_results(tmp_path):
    """Eigenvalues and self-influence of each layer by kronfluence 1.0, empirical Fisher, all in float64."""
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments, ScoreArguments
    from kronfluence.task import Task
    from kronfluence.utils.dataset import DataLoaderKwargs

    class MinusLogProb(Task):
        def compute_train_loss(self, batch, model, sample=False):
            return -model(batch[0]).sum()

        def compute_measurement(self, batch, model):
            return -model(batch[0]).sum()

    def double(*names):
        return {f"{name}_dtype": torch.float64 for name in names}

    def run(images, damping):
        task, data = MinusLogProb(), TensorDataset(images)
        model = prepare_model(copy.deepcopy(Net()), task)
        analyzer = Analyzer("net", model, task, cpu=True, disable_tqdm=True, output_dir=str(tmp_path))
        analyzer.set_dataloader_kwargs(DataLoaderKwargs(num_workers=0))
        analyzer.fit_all_factors(
            "ekfac",
            data,
            per_device_batch_size=8,
            factor_args=FactorArguments(
                strategy="ekfac",
                use_empirical_fisher=True,
                **double("activation_covariance", "gradient_covariance", "per_sample_gradient", "lambda"),
            ),
        )
        analyzer.compute_self_scores(
            "self",
            "ekfac",
            data,
            per_device_train_batch_size=8,
            score_args=ScoreArguments(
                damping_factor=damping,
                compute_per_module_scores=True,
                **double("per_sample_gradient", "precondition", "score"),
            ),
        )
        factors = analyzer.load_lambda_matrices("ekfac")
        count = factors["num_lambda_processed"]
        eigenvalues = {name: sums / count[name] for name, sums in factors["lambda_matrix"].items()}
        return eigenvalues, analyzer.load_self_scores("self")

    return run


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")  # not ours
def test_kronfluence_finds_the_same_eigenvalues_and_scores(kronfluence_results):
    damping, images = 1e-3, random_images(200)
    eigenvalues, scores = kronfluence_results(images, damping)
    layers = fit_net(Ekfac, images, damping=damping)
    ours = layer_scores(layers, images)
    for name, layer in layers.items():
        assert_same(layer.state["eigenvalues"], eigenvalues[name], rtol=1e-6)
        assert_same(ours[name], scores[name], rtol=1e-6)


@pytest.mark.parametrize(("inputs", "outputs", "said"), [(17000, 2, "2x17,000"), (2, 17000, "17,000x2")])
def test_a_layer_that_is_too_wide_is_refused_before_memory_is_asked_for(inputs, outputs, said):
    gradient = LayerGradient(torch.zeros(1, 1, inputs), torch.zeros(1, 1, outputs))
    with pytest.raises(OptionError, match=rf"{said} weights is wider than limit = 16,385: .* would take 10 GB;"):
        Ekfac(EkfacOptions()).sums(gradient, 0)


def test_a_layer_as_wide_as_the_limit_is_taken():
    assert Ekfac(EkfacOptions(limit=3)).sums(random_gradient(1, 1, 3, 2), 0)
    assert Ekfac(EkfacOptions(limit=3)).sums(random_gradient(1, 1, 2, 3), 0)


WIDE = """
import resource, torch, oodkit
from torch import nn
from oodkit_rose.ekfac import Ekfac
from oodkit_rose.ekfac_options import EkfacOptions

class Wide(oodkit.GenerativeModel):
    def __init__(self):
        super().__init__((1, 32, 32), oodkit.ModelOptions())
        self.layer = nn.Linear(512, 512)

    def log_prob(self, images):
        return -self.layer(images.to(self.dtype).view(-1, 2, 512) / 255).square().flatten(1).sum(1)

images = oodkit.ImageSet("random", "train", torch.randint(256, (256, 1, 32, 32), dtype=torch.uint8))
for count in (4, 256):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    few = images.select(torch.arange(count))
    oodkit.fit_curvature(Wide(), few, {"layer": Ekfac(EkfacOptions())}, batch_size=count)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_fitting_many_images_at_once_does_not_hold_their_dense_gradients():
    """256 gradients of 512 by 513 weights would be 538 MB of float64."""
    done = subprocess.run([sys.executable, "-c", WIDE], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 100, "MiB, beyond what four images take"
