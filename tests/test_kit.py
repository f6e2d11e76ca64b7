"""Each check of the conformance kit fails on a plugin that is broken in just that way, and on no sound one."""

from unittest import SkipTest

import pytest

from oodkit import PluginError
from oodkit.testing import curvature_checks, dataset_checks, detector_checks, model_checks

PLUGIN = """
from oodkit import {kind}Spec, hookimpl

@hookimpl
def oodkit_{kinds}():
    return [{kind}Spec(name="subject", target="oodkit_subject.subject:Subject", summary="for a test"{more})]
"""

# --- detectors ----------------------------------------------------------------------------------------------

DETECTOR = '''
import torch
from pydantic import Field
from oodkit import Detector, DetectorOptions

class Mine(DetectorOptions):
    power: int = Field(2, ge=1, description="Of the distance.")

class Subject(Detector[Mine]):
    """Distance from the mean image."""

    def _fit(self, images):
        return {"mean": self.per_image(lambda batch: batch.double(), images).mean(0)}

    def _score(self, images):
        return (images.double() - self.state["mean"]).abs().pow(self.options.power).mean((1, 2, 3)) + 1
'''
SCORE = 'return (images.double() - self.state["mean"]).abs().pow(self.options.power).mean((1, 2, 3)) + 1'
FIT = 'return {"mean": self.per_image(lambda batch: batch.double(), images).mean(0)}'

# check -> what is replaced by what
BROKEN_DETECTORS = {
    "check_one_finite_number_per_image": (SCORE, "return images.double().mean((1, 2, 3)) / 0"),
    "check_alone_as_in_a_batch": (SCORE, "x = images.double(); return (x - x.mean(0)).abs().mean((1, 2, 3))"),
    "check_order_does_not_matter": (SCORE, "return torch.arange(len(images)) + images.double().mean((1, 2, 3))"),
    "check_neighbours_do_not_matter": (SCORE, "return images.double().mean((1, 2, 3)) / images.double().mean()"),
    "check_same_again": (SCORE, "return torch.rand(len(images))"),
    "check_batch_size_does_not_matter": (
        FIT,
        'return {"mean": next(iter(images.batches(self.batch_size))).double().mean(0)}',
    ),
    "check_saved_and_loaded": (FIT, 'self.mine = 3; return {"mean": images.images.double().mean(0)}'),
    "check_higher_is_more_ood": (SCORE, SCORE.replace("return (", "return -(").replace("+ 1", "- 1")),
    "check_bad_input_is_refused": ("def _fit", "def _checked(self, images):\n        return images\n\n    def _fit"),
    "check_scoring_before_fit_is_refused": (
        "def _fit",
        "def score(self, images):\n        return torch.ones(len(images))\n\n    def _fit",
    ),
    "check_options_are_documented_and_honoured": ('description="Of the distance."', ""),
    "check_nothing_global_is_touched": (FIT, f"torch.manual_seed(0); {FIT}"),
    "check_memory_is_returned": (FIT, f"KEPT.append(images.images.clone()); {FIT}"),
    "check_nothing_is_pickled": (FIT, f'torch.save(images.images, "/dev/null"); {FIT}'),
    "check_hooks_do_not_import_torch": (
        "from oodkit import DetectorSpec",
        "import torch\nfrom oodkit import DetectorSpec",
    ),
}
EXTRA = {"check_saved_and_loaded": (SCORE, "return images.double().mean((1, 2, 3)) ** self.mine")}
MORE_BROKEN_DETECTORS = [  # other ways to break the same promises
    ("check_one_finite_number_per_image", SCORE, "return images.double().mean((2, 3))"),
    ("check_options_are_documented_and_honoured", ".pow(self.options.power)", ""),
    ("check_options_are_documented_and_honoured", '(2, ge=1, description="Of the distance.")', "(2)"),
    ("check_nothing_global_is_touched", FIT, f"torch.set_default_dtype(torch.float64); {FIT}"),
    ("check_nothing_global_is_touched", FIT, f"torch.use_deterministic_algorithms(True); {FIT}"),
    ("check_nothing_global_is_touched", FIT, f"torch.set_num_threads(torch.get_num_threads() + 1); {FIT}"),
    ("check_nothing_global_is_touched", FIT, f"import random; random.random(); {FIT}"),
    ("check_nothing_global_is_touched", FIT, f"import numpy; numpy.random.rand(); {FIT}"),
    ("check_nothing_global_is_touched", FIT, f"import os; os.environ['OODKIT_SUBJECT'] = '1'; {FIT}"),
    ("check_nothing_is_pickled", "import torch", "import torch, pickle"),
    ("check_nothing_is_pickled", "import torch", "import torch\nfrom joblib import dump"),
    ("check_nothing_is_pickled", FIT, f"self.read = lambda f: torch.load(f); {FIT}"),
    ("check_nothing_is_pickled", FIT, f"import numpy; self.read = lambda f: numpy.load(f, allow_pickle=True); {FIT}"),
]


@pytest.fixture(autouse=True)
def clean():
    """What the broken plugins do to the process is undone."""
    import os
    import random

    import numpy as np
    import torch

    before = torch.get_num_threads(), torch.get_rng_state(), random.getstate(), np.random.get_state()
    yield
    torch.set_num_threads(before[0])
    torch.set_rng_state(before[1])
    random.setstate(before[2])
    np.random.set_state(before[3])
    torch.set_default_dtype(torch.float32)
    torch.use_deterministic_algorithms(False)
    os.environ.pop("OODKIT_SUBJECT", None)


def run(checks, name):
    (check,) = (check for check in checks if check.__name__ == name)
    check()


def replaced(text, *changes):
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return text


def install_detector(install, *changes, model="none"):
    more = f", options='oodkit_subject.subject:Mine', model={model!r}"
    hooks = PLUGIN.format(kind="Detector", kinds="detectors", more=more)
    of_hooks = [(old, new) for old, new in changes if old in hooks]
    code = replaced("KEPT = []\n" + DETECTOR, *((old, new) for old, new in changes if old not in hooks))
    install("oodkit-subject", replaced(hooks, *of_hooks), subject=code)


def test_a_sound_detector_passes_every_check(install):
    install_detector(install)
    checks = detector_checks("subject", power=3)
    assert {c.__name__ for c in checks} == {*BROKEN_DETECTORS, "check_same_on_cuda"}
    for check in checks:
        try:
            check()
        except SkipTest as reason:
            assert "CUDA" in str(reason)


@pytest.mark.parametrize("name", BROKEN_DETECTORS)
def test_a_detector_broken_in_one_way_fails_that_check(install, name):
    install_detector(install, BROKEN_DETECTORS[name], *([EXTRA[name]] if name in EXTRA else []))
    with pytest.raises((AssertionError, AttributeError)):
        run(detector_checks("subject"), name)


@pytest.mark.parametrize(("name", "old", "new"), MORE_BROKEN_DETECTORS)
def test_further_ways_to_break_a_detector(install, name, old, new):
    install_detector(install, (old, new))
    with pytest.raises(AssertionError):
        run(detector_checks("subject"), name)


@pytest.mark.parametrize(
    ("fit", "said"),
    [
        ("next(self.model.parameters()).data.add_(0.5); ", "the model's own weights changed: trunk.0.weight"),
        ("self.model.requires_grad_(False); ", "requires_grad or a hook"),
        ("self.model.register_forward_hook(print); ", "requires_grad or a hook"),
    ],
)
def test_a_detector_that_changes_its_model_is_found(install, monkeypatch, fit, said):
    import copy

    from oodkit.testing import detectors, inputs

    lent = copy.deepcopy(inputs.small_vae())
    monkeypatch.setattr(detectors, "small_vae", lambda: lent)  # the other tests' model stays sound
    install_detector(install, (FIT, fit + FIT), model="any")
    with pytest.raises(AssertionError, match=said):
        run(detector_checks("subject"), "check_nothing_global_is_touched")


# --- models -------------------------------------------------------------------------------------------------

MODEL = '''
import torch
from torch import nn
from pydantic import Field
from oodkit import GenerativeModel, LatentVariableModel, ModelOptions

KEPT = []

class Mine(ModelOptions):
    spread: float = Field(0.5, gt=0, description="Standard deviation of a pixel.")

class Subject(GenerativeModel):
    """Independent Gaussian pixels, through a linear map of a coarse view."""

    def __init__(self, image_shape, options):
        super().__init__(image_shape, options)
        self.map = nn.Linear(16, 16)

    def log_prob(self, images):
        x = nn.functional.adaptive_avg_pool2d(images.to(self.dtype) / 255, 4).flatten(1)
        return -((self.map(x) - x) / self.options.spread).square().sum(1)
'''
LOG_PROB = "return -((self.map(x) - x) / self.options.spread).square().sum(1)"
BROKEN_MODELS = {
    "check_finite_on_any_image": (LOG_PROB, "return (x.sum(1) + self.map(x).sum(1) * 0).log()"),
    "check_alone_as_in_a_batch": (
        LOG_PROB,
        "return -((self.map(x) - x.mean(0)) / self.options.spread).square().sum(1)",
    ),
    "check_deterministic": (
        LOG_PROB,
        "return -((self.map(x) - torch.rand_like(x)) / self.options.spread).square().sum(1)",
    ),
    "check_gradients_of_its_layers": (
        LOG_PROB,
        "return -x.square().sum(1) / self.options.spread + 0 * self.map(x).sum(1)",
    ),
    "check_gradients_alone_as_in_a_batch": (
        LOG_PROB,
        "return -((self.map(x.flip(0)).flip(0) - x) / self.options.spread).square().sum(1)",
    ),
    "check_statistics_are_per_image": (
        "def log_prob",
        "def statistics(self, images):\n        return {'m': self.log_prob(images).mean(0, True)}\n\n    def log_prob",
    ),
    "check_one_pass_gives_both": (
        "def log_prob",
        "def log_prob_and_statistics(self, images):\n"
        "        return self.log_prob(images), {'log_prob': self.log_prob(images) + 1}\n\n"
        "    def log_prob",
    ),
    "check_reconstructions_are_images": (
        "class Subject(GenerativeModel):",
        "class Subject(LatentVariableModel):\n"
        "    def encode(self, images):\n        x = images.flatten(1) / 255; return x, 0 * x\n\n"
        "    def log_prob_given(self, images, z):\n        return self.log_prob(images)\n\n"
        "    def decode(self, z):\n        return (255 * (z - z.mean(0))).view(-1, 1, 32, 32).byte()\n",
    ),
    "check_saved_and_loaded": (
        "def log_prob",
        "def loss(self, images, generator):\n        self.mine = 2\n        return super().loss(images, generator)\n\n"
        "    def log_prob",
    ),
    "check_fresh_is_an_untrained_twin": (
        "self.map = nn.Linear(16, 16)",
        "self.map = nn.Linear(16, 16)\n        nn.init.eye_(self.map.weight)",
    ),
    "check_seed_makes_the_weights": (
        "self.map = nn.Linear(16, 16)",
        "self.map = nn.Linear(16, 16)\n        [nn.init.ones_(p) for p in self.map.parameters()]",
    ),
    "check_bad_input_is_refused": ("from torch import nn", "from torch import nn\nimport oodkit.model\n"),
    "check_nothing_global_is_touched": ("x = nn", "torch.rand(1)\n        x = nn"),
    "check_memory_is_returned": ("x = nn", "KEPT.append(images)\n        x = nn"),
    "check_options_are_documented_and_honoured": ('description="Standard deviation of a pixel."', ""),
    "check_nothing_is_pickled": ("import torch\n", "import torch\nimport pickle\n"),
    "check_hooks_do_not_import_torch": ("from oodkit import ModelSpec", "import torch\nfrom oodkit import ModelSpec"),
}
ALSO = {
    "check_saved_and_loaded": (LOG_PROB, LOG_PROB + " * getattr(self, 'mine', 1)"),
    "check_fresh_is_an_untrained_twin": (
        "def log_prob",
        "def fresh(self, seed=0, **changes):\n        return self\n\n    def log_prob",
    ),
}


def install_model(install, *changes):
    hooks = PLUGIN.format(kind="Model", kinds="models", more=", options='oodkit_subject.subject:Mine'")
    of_hooks = [(old, new) for old, new in changes if old in hooks]
    code = replaced(MODEL, *((old, new) for old, new in changes if old not in hooks))
    install("oodkit-subject", replaced(hooks, *of_hooks), subject=code)


def test_a_sound_model_passes_every_check(install):
    install_model(install)
    checks = model_checks("subject", spread=0.7)
    assert {c.__name__ for c in checks} == set(BROKEN_MODELS)
    for check in checks:
        if check.__name__ != "check_reconstructions_are_images":  # this one has none; test_conformance.py has the vae's
            check()


@pytest.mark.parametrize("name", [name for name in BROKEN_MODELS if name != "check_bad_input_is_refused"])
def test_a_model_broken_in_one_way_fails_that_check(install, name):
    install_model(install, BROKEN_MODELS[name], *([ALSO[name]] if name in ALSO else []))
    with pytest.raises((AssertionError, RuntimeError)):
        run(model_checks("subject"), name)


def test_a_layer_that_the_kit_s_eight_images_fit_by_chance_is_found(install):
    axis_of_eight = "return -((self.map(x.expand(8, -1, -1)).mean(0) - x) / self.options.spread).square().sum(1)"
    install_model(install, (LOG_PROB, axis_of_eight))
    run(model_checks("subject"), "check_gradients_of_its_layers")
    with pytest.raises(PluginError, match="'map' sees 8 rows for 1 images"):
        run(model_checks("subject"), "check_gradients_alone_as_in_a_batch")


def test_a_model_whose_options_take_anything_is_found(install):
    install_model(
        install, ("class Mine(ModelOptions):", "class Mine(ModelOptions):\n    model_config = {'extra': 'ignore'}")
    )
    with pytest.raises(AssertionError, match="unknown option"):
        run(model_checks("subject"), "check_bad_input_is_refused")


# --- curvatures ---------------------------------------------------------------------------------------------

CURVATURE = '''
import torch
from pydantic import Field
from oodkit import CurvatureApproximation, DampingOptions, damped

KEPT = []

class Mine(DampingOptions):
    power: float = Field(1.0, description="Of the diagonal.")

class Subject(CurvatureApproximation):
    """The diagonal."""

    def sums(self, gradient, number):
        return {"squares": gradient.sum_of_squares()}

    def end_pass(self, sums, count, number):
        return {"diagonal": (sums["squares"] / count) ** self.options.power}

    def quadratic_form(self, gradient):
        return gradient.weighted_squares(1 / damped(self.state["diagonal"], self.options))
'''
FORM = 'return gradient.weighted_squares(1 / damped(self.state["diagonal"], self.options))'
END = 'return {"diagonal": (sums["squares"] / count) ** self.options.power}'
BROKEN_CURVATURES = {
    "check_not_negative_and_finite": (FORM, FORM.replace("return ", "return -")),
    "check_images_do_not_mix": (FORM, f"s = {FORM[7:]}; return s / s.max()"),
    "check_batch_size_does_not_matter": (
        'return {"squares": gradient.sum_of_squares()}',
        'return {"squares": gradient.dense().sum(0).square()}',
    ),
    "check_state_is_complete": (END, f"self.mine = count; {END}"),
    "check_same_again": (FORM, f"return {FORM[7:]} * (1 + torch.rand(1))"),
    "check_nothing_global_is_touched": (END, f"torch.manual_seed(3); {END}"),
    "check_memory_is_returned": (END, f"KEPT.append(sums); {END}"),
    "check_options_are_documented_and_honoured": ('description="Of the diagonal."', ""),
    "check_nothing_is_pickled": ("import torch\n", "import torch\nfrom pickle import dumps\n"),
    "check_hooks_do_not_import_torch": (
        "from oodkit import CurvatureSpec",
        "import torch\nfrom oodkit import CurvatureSpec",
    ),
}
BESIDES = {"check_state_is_complete": (FORM, f"return {FORM[7:]} * self.mine")}


def install_curvature(install, *changes):
    hooks = PLUGIN.format(kind="Curvature", kinds="curvatures", more=", options='oodkit_subject.subject:Mine'")
    of_hooks = [(old, new) for old, new in changes if old in hooks]
    code = replaced(CURVATURE, *((old, new) for old, new in changes if old not in hooks))
    install("oodkit-subject", replaced(hooks, *of_hooks), subject=code)


def test_a_sound_curvature_passes_every_check(install):
    install_curvature(install)
    checks = curvature_checks("subject")
    assert {c.__name__ for c in checks} == set(BROKEN_CURVATURES)
    for check in checks:
        check()


@pytest.mark.parametrize("name", BROKEN_CURVATURES)
def test_a_curvature_broken_in_one_way_fails_that_check(install, name):
    install_curvature(install, BROKEN_CURVATURES[name], *([BESIDES[name]] if name in BESIDES else []))
    with pytest.raises((AssertionError, AttributeError)):
        run(curvature_checks("subject"), name)


# --- data sets ----------------------------------------------------------------------------------------------

DATASET = '''
import torch
from oodkit import ImageSet

def Subject(request):
    """Random stripes."""
    generator = torch.Generator().manual_seed(request.seed)
    images = torch.randint(0, 256, (request.count or 100, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return ImageSet("subject", request.split, images, source="made")
'''
BROKEN_DATASETS = {
    "check_every_split": ('source="made"', 'source=""'),
    "check_same_again": (", generator=generator", ""),
    "check_any_shape": (", 1, 8, 8)", ", 2, 8, 8)"),
    "check_nothing_global_is_touched": (
        "torch.Generator().manual_seed(request.seed)",
        "torch.manual_seed(request.seed)",
    ),
    "check_nothing_is_pickled": ("import torch\n", "import torch\nimport shelve\n"),
    "check_hooks_do_not_import_torch": (
        "from oodkit import DatasetSpec",
        "import torch\nfrom oodkit import DatasetSpec",
    ),
}


def install_dataset(install, *changes):
    hooks = PLUGIN.format(kind="Dataset", kinds="datasets", more="")
    of_hooks = [(old, new) for old, new in changes if old in hooks]
    code = replaced(DATASET, *((old, new) for old, new in changes if old not in hooks))
    install("oodkit-subject", replaced(hooks, *of_hooks), subject=code)


def test_a_sound_data_set_passes_every_check(install):
    install_dataset(install)
    checks = dataset_checks("subject")
    assert {c.__name__ for c in checks} == set(BROKEN_DATASETS)
    for check in checks:
        check()


@pytest.mark.parametrize("name", BROKEN_DATASETS)
def test_a_data_set_broken_in_one_way_fails_that_check(install, name):
    install_dataset(install, BROKEN_DATASETS[name])
    from oodkit import OodkitError

    with pytest.raises((AssertionError, OodkitError)):
        run(dataset_checks("subject"), name)
