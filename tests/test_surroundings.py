"""What surrounds a look through a model: its mode, other threads, inference mode, torch's switches, random states."""

import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn

import oodkit
from oodkit.device import float32_convolutions
from oodkit.testing.surroundings import watch

SHAPE = (1, 8, 8)


class Normed(oodkit.GenerativeModel):
    """A density whose modules know two modes: batch norm and dropout."""

    def __init__(self):
        super().__init__(SHAPE, oodkit.ModelOptions())
        self.first = nn.Linear(64, 6)
        self.norm = nn.BatchNorm1d(6)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(6, 4)

    def log_prob(self, images):
        return -self.last(self.drop(self.seen(images))).square().sum(1)

    def statistics(self, images):
        return {"size": self.seen(images).square().sum(1), "log_prob": self.log_prob(images)}

    def seen(self, images):
        return self.norm(self.first(images.flatten(1).to(self.dtype) / 255)).tanh()


def images(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, *SHAPE), generator=generator, dtype=torch.uint8)


TRAIN, TEST = images(30), images(9, 1)


def normed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Normed()


def detector(model, name="rose-ekfac", /, **options):
    return oodkit.create_detector(name, model, device="cpu", batch_size=4, **options)


# --- the model's mode -----------------------------------------------------------------------------------------------

LOOKS = {
    "fit": lambda fitted: fitted.fit(TRAIN).score(TEST),
    "score": lambda fitted: fitted.score(TEST),
    "explain": lambda fitted: fitted.explain(TEST).z,
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize(("name", "options"), [("rose-ekfac", {"damping": 1e-3}), ("statistics-density", {})])
def test_a_model_in_training_mode_is_judged_in_evaluation_mode_and_left_as_it_was(name, options, look):
    expected = LOOKS[look](detector(normed().eval(), name, **options).fit(TRAIN))

    model = normed().eval()
    fitted = detector(model, name, **options).fit(TRAIN)
    model.train().drop.eval()  # each module has a mode of its own
    modes, weights = [m.training for m in model.modules()], {k: v.clone() for k, v in model.state_dict().items()}
    found = LOOKS[look](fitted)
    torch.testing.assert_close(found, expected)
    assert [m.training for m in model.modules()] == modes
    torch.testing.assert_close(dict(model.state_dict()), weights, rtol=0, atol=0)  # running statistics among them


# --- threads --------------------------------------------------------------------------------------------------------


@pytest.fixture
def hasty():
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty")
def test_threads_that_score_through_one_model_do_not_meet():
    model = normed().eval()
    model.last.bias.requires_grad_(False)
    wanted = [p.requires_grad for p in model.parameters()]
    fitted = [detector(model, name).fit(TRAIN) for name in ("rose-ekfac", "elbo")]
    serial = [one.score(TRAIN) for one in fitted]
    jobs = fitted * 8
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda one: one.score(TRAIN), jobs))
    for number, scores in enumerate(together):
        torch.testing.assert_close(scores, serial[number % 2])
    assert [p.requires_grad for p in model.parameters()] == wanted


# --- inference mode -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"), [("rose-ekfac", {}), ("rose-plus", {}), ("lr-e", {"steps": 2, "samples": 2})]
)
def test_under_inference_mode_the_numbers_are_the_same(name, options):
    model = oodkit.create_model("vae", (1, 32, 32), width=2, latent=2, device="cpu")
    known, new = (x.repeat(1, 1, 4, 4) for x in (TRAIN, TEST))
    outside = detector(model, name, **options).fit(known)
    with torch.inference_mode():
        inside = detector(model, name, **options).fit(known.clone())
        scores = inside.score(new.clone())
        explained = inside.explain(new.clone()) if name.startswith("rose") else None
        assert torch.is_inference_mode_enabled()
    torch.testing.assert_close(scores, outside.score(new))
    if explained is not None:
        torch.testing.assert_close(explained.z, outside.explain(new).z)


def test_under_inference_mode_a_model_is_made_trained_and_differentiated():
    with torch.inference_mode():
        model = oodkit.train_model("vae", TRAIN.repeat(1, 1, 4, 4), width=2, latent=2, epochs=1, device="cpu")
        inside = oodkit.layer_gradients(model, TEST.repeat(1, 1, 4, 4))
    for name, gradient in oodkit.layer_gradients(model, TEST.repeat(1, 1, 4, 4)).items():
        torch.testing.assert_close(inside[name].dense(), gradient.dense())


class Careless(oodkit.Detector):
    """Leaves gradients as it likes them."""

    def _fit(self, images):
        torch.set_grad_enabled(not torch.is_grad_enabled())
        return {}

    def _score(self, images):
        torch.set_grad_enabled(True)
        return images.float().mean((1, 2, 3))


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_what_a_detector_does_to_the_grad_mode_is_undone(mode):
    options = oodkit.DetectorOptions()
    careless = Careless("careless", None, options, device=torch.device("cpu"), batch_size=4)
    with mode():
        _, trace = watch(lambda: careless.fit(TRAIN).score(TEST))
    assert trace == ""


# --- torch's switch for convolutions --------------------------------------------------------------------------------


@pytest.mark.parametrize("allowed", [True, False])
def test_the_switch_for_convolutions_is_put_back_by_the_last_to_go(allowed):
    """Two threads, the first of which goes while the second is inside; and within one, a block in a block."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        first, second = float32_convolutions(), float32_convolutions()
        with ThreadPoolExecutor(1) as other:
            first.__enter__()
            other.submit(second.__enter__).result()
            first.__exit__(None, None, None)
            assert not torch.backends.cudnn.allow_tf32  # the second is still inside
            other.submit(second.__exit__, None, None, None).result()
        assert torch.backends.cudnn.allow_tf32 == allowed
        with float32_convolutions():
            with float32_convolutions():
                assert not torch.backends.cudnn.allow_tf32
            assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.allow_tf32 == allowed
    finally:
        torch.backends.cudnn.allow_tf32 = before


@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="a torch with one switch only")
def test_a_program_that_sets_precision_operator_by_operator_is_left_to_it():
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        scores = detector(normed()).fit(TRAIN).score(TEST)
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
    torch.testing.assert_close(scores, detector(normed()).fit(TRAIN).score(TEST))


# --- random states --------------------------------------------------------------------------------------------------

ROOT = Path(__file__).resolve().parents[1]
MAKE = {
    "create_model": lambda: oodkit.create_model("vae", (1, 32, 32), width=2, latent=2, seed=3),
    "fresh": lambda: oodkit.create_model("vae", (1, 32, 32), width=2, latent=2).fresh(seed=3),
    "fresh of a user's module": lambda: own().fresh(seed=3),
    "fit of a network": lambda: oodkit.create_detector("rnd-svd", epochs=0, fitting_images=8).fit(
        TRAIN.repeat(1, 1, 4, 4)
    ),
}


def own():
    return oodkit.adapt(normed(), log_prob=lambda module, x: module.log_prob(x), image_shape=SHAPE, pixels="bytes")


@pytest.mark.parametrize("what", MAKE)
def test_weights_are_drawn_without_a_trace(what):
    """CUDA's random states among them, where there is CUDA."""
    MAKE[what]()  # what is done once, such as an import, is no trace
    _, trace = watch(MAKE[what])
    assert trace == ""


def test_the_watch_names_the_state_that_was_touched():
    with torch.random.fork_rng():
        _, trace = watch(lambda: torch.manual_seed(5))
    states = "torch, torch on CUDA" if torch.cuda.is_available() else "torch"
    assert trace == f"the global random state of {states} was touched."


def test_no_line_of_ours_seeds_every_gpu():
    """`torch.manual_seed` does, and no test without a GPU would see it."""
    sources = [path for folder in ("oodkit", "plugins") for path in (ROOT / folder).rglob("*.py")]
    seeding = re.compile(r"torch\.(manual_seed|seed|random\.manual_seed)\(|cuda\.manual_seed")
    assert [str(path) for path in sources if seeding.search(path.read_text())] == []
