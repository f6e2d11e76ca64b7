"""A whole artifact by someone who knows the format and means ill: one sentence on loading, or a score."""

import json
import warnings

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import oodkit
from oodkit.registry import registry
from oodkit.testing import blobs
from oodkit.testing.inputs import small_vae

RND = {"architecture": "small", "epochs": 1}
LAYERS = {"layers": ["log_variance"]}
QUICK = {
    "lr-e": {"steps": 1, "samples": 1},
    "lr-z": {"steps": 1, "samples": 1},
    "waic": {"members": 2, "epochs": 0, "samples": 1},
    **{name: RND for name in registry().detectors if name.startswith("rnd-")},
    **{name: LAYERS for name in registry().detectors if name.endswith("-full")},
    **{name: {"epochs": 0} for name in registry().detectors if name.startswith("lratio-")},
}


def rewritten(source, target, header=None, tensors=None):
    """Copy an artifact with other entries of its header and other tensors (None: taken out), its sum left out."""
    with safe_open(source, framework="pt") as file:
        held = {name: file.get_tensor(name) for name in file.keys()}  # not a dict: has no iterator
        text = {**json.loads(file.metadata()["oodkit"]), **(header or {})}
    held.update(tensors(held) if tensors else {})
    kept = {name: tensor.contiguous() for name, tensor in held.items() if tensor is not None}
    save_file(kept, target, {"oodkit": json.dumps({k: v for k, v in text.items() if v != "taken out"})})


def of_state(change):
    """Change each learnt tensor, by its own name and value."""
    return lambda held: {name: change(value) for name, value in held.items() if name.startswith("state.")}


def every_tensor(value):
    return {
        "taken out": None,
        "NaN": torch.full_like(value, torch.nan) if value.is_floating_point() else value,
        "another shape": torch.zeros(7, 3, 5, dtype=value.dtype),
        "no element": value.new_zeros(0),
        "a number": value.new_zeros(()),
        "int8": torch.zeros(value.shape, dtype=torch.int8),
        "bool": torch.ones(value.shape, dtype=torch.bool),
        "complex": torch.zeros(value.shape, dtype=torch.complex64),
        "float8": torch.zeros(value.shape).to(torch.float8_e4m3fn),
        "bfloat16": torch.ones(value.shape, dtype=torch.bfloat16),
        "infinity": torch.full_like(value, torch.inf) if value.is_floating_point() else value,
    }


STATES = list(every_tensor(torch.zeros(1)))
REFUSED = ("taken out", "NaN")  # of any detector that has learnt something
HEADERS = [
    {"options": "taken out"},
    {"options": []},
    {"options": {"no_such": 1}},
    {"options": {"seed": "x"}},
    {"options": {"name": "x", "device": "y"}},
    {"image_shape": [1, 2**20, 2**20]},
    {"image_shape": [3, 8, 8]},
    {"image_shape": None},
    {"detector": "taken out"},
    {"detector": ["x"]},
    {"model": "taken out"},
    {"model": "vae"},
    {"model": {"model": "glow"}},
    {"alpha": "x"},
    {"alpha": 7},
    {"versions": 3},
    {"training": 3},
]


def fitted(name, path):
    """Save a detector and return its file."""
    model = None if registry().detector(name).spec.model == "none" else small_vae()
    oodkit.create_detector(name, model, device="cpu", **QUICK.get(name, {})).fit(blobs(24)).save(path)
    return path


@pytest.fixture(scope="module", params=list(registry().detectors))
def saved(request, tmp_path_factory):
    """The file of each detector."""
    return fitted(request.param, tmp_path_factory.mktemp("hostile") / "detector")


@pytest.fixture(scope="module", params=["complexity", "elbo", "rose-diag"])
def one_of_three(request, tmp_path_factory):
    """The file of a detector without a model, of one that learns nothing, and of one that learns: the core reads it."""
    return fitted(request.param, tmp_path_factory.mktemp("hostile") / "detector")


def outcome(path):
    """Return the sentence of the refusal, or "" where a score came out; anything else is a traceback."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            detector = oodkit.load_detector(path, "cpu")
            scores = detector.score(blobs(2))
        except (oodkit.ArtifactError, oodkit.OptionError, oodkit.PluginError, oodkit.TrainingError) as error:
            return str(error)
        except oodkit.ImageError as error:
            assert detector.image_shape != (1, 32, 32)
            return str(error)
    assert scores.shape == (2,) and not scores.isnan().any()
    return ""


def test_a_learnt_state_that_does_not_fit_is_refused_or_scores(saved, tmp_path):
    with safe_open(saved, framework="pt") as file:
        learnt = any(name.startswith("state.") for name in file.keys())  # not a dict: has no iterator
    for kind in STATES:
        rewritten(saved, tmp_path / "d", tensors=of_state(lambda value, kind=kind: every_tensor(value)[kind]))
        said = outcome(tmp_path / "d")
        assert said or not learnt or kind not in REFUSED, kind
    rewritten(saved, tmp_path / "d", tensors=lambda held: {"state.more": torch.zeros(3), "stray": torch.zeros(3)})
    outcome(tmp_path / "d")


def test_one_wrong_tensor_among_right_ones_is_refused_or_scores(saved, tmp_path):
    with safe_open(saved, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith("state.")]  # not a dict: has no iterator
    for number, kind in enumerate(STATES[:7:2] if names else ()):
        name = names[number * 7 % len(names)]
        rewritten(saved, tmp_path / "d", tensors=lambda held, n=name, k=kind: {n: every_tensor(held[n])[k]})
        outcome(tmp_path / "d")


def test_a_header_that_lies_is_refused(one_of_three, tmp_path):
    for header in HEADERS:
        rewritten(one_of_three, tmp_path / "d", header=header)
        said = outcome(tmp_path / "d")
        assert said, header


def test_another_detectors_name_is_refused_or_scores(one_of_three, tmp_path):
    for name in ("elbo", "rose-diag", "statistics-density", "rnd-svd", "complexity", "lr-z", "ensemble", "no-such"):
        for options in ({}, {"options": {}}):
            rewritten(one_of_three, tmp_path / "d", header={"detector": name, **options})
            outcome(tmp_path / "d")


@pytest.mark.parametrize(
    "scores",
    [torch.zeros(0), torch.zeros(2, 2), torch.tensor([2.0, 1.0]), torch.tensor([torch.nan]), torch.zeros(3).long()],
)
def test_calibration_scores_that_are_none_are_refused(scores, tmp_path):
    oodkit.create_detector("complexity", device="cpu").fit(blobs(4)).calibrate(blobs(5)).save(tmp_path / "d")
    rewritten(tmp_path / "d", tmp_path / "e", tensors=lambda held: {"calibration": scores})
    assert "calibration scores" in outcome(tmp_path / "e")


# --- models -------------------------------------------------------------------------------------------------

MODELS = {
    "vae": {"width": 2, "latent": 2},
    "glow": {"steps": 1, "hidden": 4},
    "classifier": {},
}


@pytest.fixture(scope="module", params=list(MODELS))
def saved_model(request, tmp_path_factory):
    """The file of one model."""
    path = tmp_path_factory.mktemp("hostile") / "model"
    oodkit.create_model(request.param, (1, 32, 32), device="cpu", **MODELS[request.param]).save(path)
    return path


@pytest.mark.parametrize("kind", STATES)
def test_weights_that_do_not_fit_are_refused_or_make_a_finite_model(saved_model, tmp_path, kind):
    rewritten(saved_model, tmp_path / "m", tensors=lambda held: {n: every_tensor(v)[kind] for n, v in held.items()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = oodkit.load_model(tmp_path / "m", "cpu")
        except oodkit.OodkitError:
            return
    assert kind not in ("taken out", "NaN", "another shape", "no element", "infinity")
    with torch.no_grad():
        assert model.log_prob(blobs(2).images).shape == (2,)


@pytest.mark.parametrize(
    "header",
    [
        {"options": "taken out"},
        {"options": []},
        {"options": {"no_such": 1}},
        {"image_shape": [1, 2**20, 2**20]},
        {"image_shape": "x"},
        {"model": "taken out"},
        {"model": ["vae"]},
        {"model": "no-such"},
        {"training": 3},
        {"training": "taken out"},
    ],
)
def test_a_models_header_that_lies_is_refused(saved_model, tmp_path, header):
    rewritten(saved_model, tmp_path / "m", header=header)
    with pytest.raises(oodkit.OodkitError):
        oodkit.load_model(tmp_path / "m", "cpu")


def test_another_models_name_is_refused(saved_model, tmp_path):
    own = oodkit.load_model(saved_model, "cpu").name
    for name in registry().models.keys() - {own}:
        rewritten(saved_model, tmp_path / "m", header={"model": name, "options": {}})
        with pytest.raises(oodkit.ArtifactError):
            oodkit.load_model(tmp_path / "m", "cpu")
