"""The conformance kit: what every plugin promises, as named checks for a plugin's own tests.

    import pytest
    from oodkit.testing import detector_checks

    @pytest.mark.parametrize("check", detector_checks("typical"), ids=lambda check: check.__name__)
    def test_typical_conforms(check):
        check()

A check that fails raises `AssertionError` with the numbers. Options make a slow plugin quick for its checks:
`detector_checks("lr-e", steps=3)`.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oodkit.curvature import CurvatureApproximation, fit_curvature
from oodkit.detector import Detector, create_detector, load_detector
from oodkit.errors import ImageError, NotFittedError, OptionError
from oodkit.gradients import layer_gradients
from oodkit.images import ImageSet
from oodkit.loading import load_images
from oodkit.model import GenerativeModel, create_model, load_model, train_model
from oodkit.options import Options
from oodkit.registry import detector_options, load_target, model_options, registry

__all__ = ["TOLERANCE", "curvature_checks", "dataset_checks", "detector_checks", "model_checks"]

Check = Callable[[], None]

# Kernels change with the batch size, so equal means: within this share of the scores' own size and spread.
TOLERANCE = 1e-3


def detector_checks(name: str, **options: Any) -> list[Check]:  # Any: an option's value
    """Return the checks of a registered detector, to be run with these options."""
    return _checks(_DetectorKit(name, options))


def model_checks(name: str, **options: Any) -> list[Check]:  # Any: an option's value
    """Return the checks of a registered model, on grey 32x32 images, with these options."""
    return _checks(_ModelKit(name, options))


def curvature_checks(name: str, **options: Any) -> list[Check]:  # Any: an option's value
    """Return the checks of a registered curvature approximation, with these options."""
    return _checks(_CurvatureKit(name, options))


def dataset_checks(name: str) -> list[Check]:
    """Return the checks of a registered data set; its files must be on this machine."""
    return _checks(_DatasetKit(name))


def _checks(kit: object) -> list[Check]:
    return [getattr(kit, name) for name in vars(type(kit)) if name.startswith("check_")]


def blobs(count: int, seed: int = 0) -> ImageSet:
    """Return smooth bright spots on a dark ground, uint8 (count, 1, 32, 32): in-distribution, for the checks."""
    generator = torch.Generator().manual_seed(seed)
    centre = 8 + 16 * torch.rand(count, 2, 1, generator=generator)
    radius = 3 + 3 * torch.rand(count, 1, 1, generator=generator)
    axis = torch.arange(32.0)
    distance = (axis - centre[:, :1]).square()[..., None, :] + (axis - centre[:, 1:]).square()[..., :, None]
    images = 255 * torch.exp(-distance / (2 * radius[..., None].square()))
    return ImageSet("blobs", "train", images.round().to(torch.uint8))


def noise(count: int, seed: int = 1) -> ImageSet:
    """Return uniform noise, uint8 (count, 1, 32, 32): out-of-distribution, for the checks."""
    generator = torch.Generator().manual_seed(seed)
    return ImageSet("noise", "test", torch.randint(0, 256, (count, 1, 32, 32), generator=generator, dtype=torch.uint8))


def assert_same(actual: Tensor, expected: Tensor, what: str) -> None:
    """Fail unless the numbers agree to `TOLERANCE`.

    Raises:
        AssertionError: names the largest difference.
    """
    actual, expected = actual.double(), expected.double()
    scale = expected.abs().clamp_min(float(expected.std(correction=0)) + 1e-12)
    if not (worst := float(((actual - expected).abs() / scale).max())) <= TOLERANCE:
        raise AssertionError(f"{what}: scores differ by {worst:.2g} of their size; {TOLERANCE:g} is allowed.")


def _assert_refused(call: Callable[[], object], error: type[Exception], what: str) -> None:
    try:
        call()
    except error:
        return
    raise AssertionError(f"{what} was not refused with {error.__name__}.")


@cache
def _small_vae() -> GenerativeModel:
    """Return the model that all detectors and curvatures are checked on; none may change it."""
    return train_model("vae", blobs(192), width=4, latent=4, epochs=6, batch_size=16, device="cpu")


class _Globals:
    """The global state that a plugin must leave as it is."""

    def __init__(self, model: GenerativeModel | None = None) -> None:
        self.rng = torch.get_rng_state()
        self.settings = (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads())
        self.weights = {k: v.clone() for k, v in model.state_dict().items()} if model is not None else {}
        self.wanted = [p.requires_grad for p in model.parameters()] if model is not None else []

    def assert_untouched(self, model: GenerativeModel | None = None) -> None:
        now = (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads())
        assert torch.equal(self.rng, torch.get_rng_state()), "the global random state was touched."
        assert now == self.settings, f"default dtype, grad mode or threads changed from {self.settings} to {now}."
        if model is not None:
            changed = [k for k, v in model.state_dict().items() if not torch.equal(v, self.weights[k])]
            assert not changed, f"the model's own weights changed: {changed}."
            assert self.wanted == [p.requires_grad for p in model.parameters()], "requires_grad of the model changed."


def _assert_documented(options: type[Options]) -> None:
    silent = [name for name, field in options.model_fields.items() if not field.description]
    assert not silent, f"options without a description: {silent}."


def _assert_lazy(target: str) -> None:
    """Fail if importing a plugin's hooks, in a fresh process, imports torch."""
    module = target.partition(":")[0].partition(".")[0] + ".plugin"
    code = f"import sys, {module}; sys.exit('torch' in sys.modules and 'it imports torch')"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"importing {module} in a fresh process: {done.stderr.strip().splitlines()[-1]}"


class _DetectorKit:
    def __init__(self, name: str, options: dict[str, Any]) -> None:  # Any: an option's value
        self.name, self.options = name, options
        self.entry = registry().detector(name)

    def model(self) -> GenerativeModel | None:
        return None if self.entry.spec.model == "none" else _small_vae()

    def fitted(self, **keywords: Any) -> Detector[Any]:  # Any: device or batch size; options of any detector
        settings: dict[str, Any] = {"device": "cpu", "batch_size": 8, **self.options, **keywords}  # Any: as above
        return create_detector(self.name, self.model(), **settings).fit(blobs(96, seed=2))

    @cached_property
    def detector(self) -> Detector[Any]:  # Any: options of any detector
        return self.fitted()

    @cached_property
    def images(self) -> ImageSet:
        mixed = torch.cat([blobs(5, seed=3).images, noise(3).images])
        return ImageSet("mixed", "test", mixed)

    @cached_property
    def scores(self) -> Tensor:
        return self.detector.score(self.images)

    def check_one_finite_number_per_image(self) -> None:
        assert self.scores.shape == (len(self.images),), f"scores have shape {tuple(self.scores.shape)}."
        assert self.scores.isfinite().all(), f"scores are not finite: {self.scores}."

    def check_alone_as_in_a_batch(self) -> None:
        alone = torch.cat([self.detector.score(image[None]) for image in self.images.images])
        assert_same(alone, self.scores, "alone against in a batch")

    def check_order_does_not_matter(self) -> None:
        shuffled = torch.tensor([6, 2, 7, 0, 4, 1, 5, 3])
        assert_same(self.detector.score(self.images.select(shuffled)), self.scores[shuffled], "shuffled")

    def check_neighbours_do_not_matter(self) -> None:
        others = torch.cat([self.images.images[:4], noise(4, seed=9).images])
        assert_same(self.detector.score(others)[:4], self.scores[:4], "among other images")

    def check_same_again(self) -> None:
        assert torch.equal(self.detector.score(self.images), self.scores), "scoring twice gives two results."
        assert_same(self.fitted().score(self.images), self.scores, "fitted again")

    def check_batch_size_does_not_matter(self) -> None:
        assert_same(
            self.fitted(batch_size=3).score(self.images), self.scores, "fitted and scored at another batch size"
        )

    def check_saved_and_loaded(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "detector.oodkit"
            self.detector.save(path)
            again = load_detector(path, device="cpu", batch_size=8)
        assert_same(again.score(self.images), self.scores, "saved and loaded")
        assert again.options == self.detector.options, "options changed by save and load."

    def check_same_on_cuda(self) -> None:
        if not torch.cuda.is_available():
            return  # nothing to compare with on this machine
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "detector.oodkit"
            self.detector.save(path)
            assert_same(load_detector(path, device="cuda").score(self.images), self.scores, "on CUDA")

    def check_higher_is_more_ood(self) -> None:
        # Either will do: input complexity, for one, is made not to find noise strange.
        known = self.detector.score(blobs(16, seed=4))
        shares = {
            name: float((self.detector.score(unknown)[:, None] > known[None]).double().mean())
            for name, unknown in (("noise", noise(16).images), ("inverted images", 255 - blobs(16, seed=5).images))
        }
        assert max(shares.values()) > 0.9, f"of pairs with a training-like image, OOD scores higher in {shares} only."

    def check_bad_input_is_refused(self) -> None:
        grey = self.images.images
        for images, what in (
            (grey.float() / 255, "float images"),
            (grey[:0], "an empty batch"),
            (grey[0], "an image without a batch axis"),
            (grey[:, :, :16], "images of another size"),
            (grey.expand(-1, 3, -1, -1), "images of another number of channels"),
        ):
            _assert_refused(lambda images=images: self.detector.score(images), ImageError, what)  # type: ignore[misc]  # mypy does not infer a default

    def check_scoring_before_fit_is_refused(self) -> None:
        fresh = create_detector(self.name, self.model(), device="cpu", **self.options)
        _assert_refused(lambda: fresh.score(self.images), NotFittedError, "scoring before fit")
        _assert_refused(lambda: fresh.save("never-written"), NotFittedError, "saving before fit")

    def check_options_are_documented_and_strict(self) -> None:
        _assert_documented(detector_options(self.entry))
        _assert_refused(
            lambda: create_detector(self.name, self.model(), no_such_option=1), OptionError, "an unknown option"
        )

    def check_nothing_global_is_touched(self) -> None:
        model = self.model()
        before = _Globals(model)
        self.fitted().score(self.images)
        before.assert_untouched(model)

    def check_hooks_do_not_import_torch(self) -> None:
        _assert_lazy(self.entry.spec.target)


class _ModelKit:
    def __init__(self, name: str, options: dict[str, Any]) -> None:  # Any: an option's value
        self.name, self.options = name, options
        self.entry = registry().model(name)

    @cached_property
    def model(self) -> GenerativeModel:
        return train_model(self.name, blobs(64), device="cpu", **{"epochs": 1, **self.options})

    @cached_property
    def images(self) -> Tensor:
        grey = torch.zeros(1, 1, 32, 32, dtype=torch.uint8)
        return torch.cat([blobs(3, seed=3).images, noise(2).images, grey, grey + 127, grey + 255])

    def _log_prob(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return self.model.log_prob(images)

    def check_finite_on_any_image(self) -> None:
        for function in (self.model.log_prob, self.model.log_likelihood):
            with torch.no_grad():
                log_p = function(self.images)
            assert log_p.shape == (len(self.images),), f"log-probabilities have shape {tuple(log_p.shape)}."
            assert log_p.isfinite().all(), f"not finite on noise, black, grey or white images: {log_p}."

    def check_alone_as_in_a_batch(self) -> None:
        for function in (self.model.log_prob, self.model.log_likelihood):
            with torch.no_grad():
                alone = torch.cat([function(image[None]) for image in self.images])
                assert_same(alone, function(self.images), f"{function.__name__}, alone against in a batch")

    def check_deterministic(self) -> None:
        assert torch.equal(self._log_prob(self.images), self._log_prob(self.images)), "log_prob is not deterministic."

    def check_gradients_of_its_layers(self) -> None:
        layers = self.model.curvature_layers()
        assert layers, "curvature_layers() is empty: ROSE has nothing to look at."
        for name, gradient in layer_gradients(self.model, self.images, layers).items():
            assert gradient.dense().isfinite().all(), f"the gradient of {name} is not finite."
            assert gradient.dense().any(), f"log_prob does not depend on {name}."

    def check_statistics_are_per_image(self) -> None:
        with torch.no_grad():
            together = self.model.statistics(self.images)
            for name, values in together.items():
                assert values.shape == (len(self.images),), f"{name} has shape {tuple(values.shape)}."
                alone = torch.cat([self.model.statistics(image[None])[name] for image in self.images])
                assert_same(alone, values, f"{name}, alone against in a batch")

    def check_saved_and_loaded(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.oodkit"
            self.model.save(path)
            again = load_model(path, device="cpu")
        with torch.no_grad():
            assert torch.equal(again.log_prob(self.images), self._log_prob(self.images)), "changed by save and load."

    def check_fresh_is_an_untrained_twin(self) -> None:
        twin = self.model.fresh(seed=7)
        assert twin.options == self.model.options and twin.name == self.name, "fresh() has other options or no name."
        assert any(not torch.equal(a, b) for a, b in zip(twin.parameters(), self.model.parameters(), strict=True))

    def check_seed_makes_the_weights(self) -> None:
        shape = self.model.image_shape
        a, b, c = (create_model(self.name, shape, seed=s, device="cpu", **self.options) for s in (3, 3, 4))
        assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True)), (
            "seed 3 gave two models."
        )
        assert any(not torch.equal(x, y) for x, y in zip(a.parameters(), c.parameters(), strict=True)), (
            "seeds do nothing."
        )

    def check_nothing_global_is_touched(self) -> None:
        before = _Globals()
        train_model(self.name, blobs(8), device="cpu", **{"epochs": 1, **self.options})
        before.assert_untouched()

    def check_options_are_documented_and_hooks_are_lazy(self) -> None:
        _assert_documented(model_options(self.entry))
        _assert_lazy(self.entry.spec.target)


class _CurvatureKit:
    def __init__(self, name: str, options: dict[str, Any]) -> None:  # Any: an option's value
        self.name = name
        self.entry = registry().curvature(name)
        self.kind: type[CurvatureApproximation] = load_target(self.entry.spec.target, name)
        self.options_class: type[Options] = load_target(self.entry.spec.options, name)
        self.options: Any = self.options_class.parse(name, options)  # Any: the class that the spec names

    def fitted(self, batch_size: int = 16) -> dict[str, CurvatureApproximation]:
        layers = {name: self.kind(self.options) for name in _small_vae().curvature_layers()}
        fit_curvature(_small_vae(), blobs(64), layers, batch_size=batch_size)
        return layers

    @cached_property
    def layers(self) -> dict[str, CurvatureApproximation]:
        return self.fitted()

    @cached_property
    def images(self) -> Tensor:
        return torch.cat([blobs(5, seed=3).images, noise(3).images])

    def _scores(self, layers: dict[str, CurvatureApproximation], images: Tensor) -> Tensor:
        gradients = layer_gradients(_small_vae(), images, list(layers))
        return torch.stack([layers[name].quadratic_form(g) for name, g in gradients.items()], 1)

    def check_not_negative_and_finite(self) -> None:
        scores = self._scores(self.layers, self.images)
        assert scores.isfinite().all() and (scores >= 0).all(), f"S = sᵀ F⁻¹ s is negative or not finite: {scores}."

    def check_images_do_not_mix(self) -> None:
        together = self._scores(self.layers, self.images)
        alone = torch.cat([self._scores(self.layers, image[None]) for image in self.images])
        assert_same(alone, together, "alone against in a batch")

    def check_batch_size_does_not_matter(self) -> None:
        assert_same(
            self._scores(self.fitted(batch_size=5), self.images),
            self._scores(self.layers, self.images),
            "fitted in fives",
        )

    def check_state_is_complete(self) -> None:
        again = {name: self.kind(self.options) for name in self.layers}
        for name, approximation in self.layers.items():
            again[name].state = dict(approximation.state)
        expected = self._scores(self.layers, self.images)
        assert torch.equal(self._scores(again, self.images), expected), "`state` does not hold all that was learnt."

    def check_options_are_documented_and_hooks_are_lazy(self) -> None:
        _assert_documented(self.options_class)
        _assert_lazy(self.entry.spec.target)


class _DatasetKit:
    def __init__(self, name: str) -> None:
        self.name = name
        self.entry = registry().dataset(name)
        self.reference = blobs(20, seed=5) if self.entry.spec.derived else None

    def _load(self, **keywords: Any) -> ImageSet:  # Any: arguments of load_images
        return load_images(
            self.name, **{"split": self.entry.spec.splits[-1], "limit": 10, **keywords}, reference=self.reference
        )

    def check_every_split(self) -> None:
        for split in self.entry.spec.splits:
            images = self._load(split=split)
            assert 1 <= len(images) <= 10, f"{split}: {len(images)} images for limit=10."
            assert images.source, f"{split}: no source is recorded."

    def check_same_again(self) -> None:
        assert self._load().hash == self._load().hash, "loading twice gives two sets."

    def check_any_shape(self) -> None:
        for shape in ((1, 32, 32), (3, 32, 32)):
            assert self._load(image_shape=shape).image_shape == shape

    def check_nothing_global_is_touched_and_hooks_are_lazy(self) -> None:
        before = _Globals()
        self._load()
        before.assert_untouched()
        _assert_lazy(self.entry.spec.target)
