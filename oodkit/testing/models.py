"""What every model promises."""

import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor

from oodkit.errors import ImageError, OptionError
from oodkit.gradients import layer_gradients
from oodkit.images import ImageSet
from oodkit.model import GenerativeModel, LatentVariableModel
from oodkit.named_models import create_model, load_model, train_model
from oodkit.registry import model_options, registry
from oodkit.testing.inputs import assert_refused, assert_same, blobs, noise
from oodkit.testing.source import assert_documented, assert_lazy, assert_no_pickle, assert_options_are_read
from oodkit.testing.surroundings import Surroundings, tensor_bytes

__all__ = ["ModelKit"]

ROUNDED = 0.01  # of sub-pixels that lie so close between two values that the batch size decides


class ModelKit:
    """The checks of one model, on grey 32x32 images, on the CPU."""

    def __init__(self, name: str, options: dict[str, Any]) -> None:  # Any: an option's value
        self.name, self.options = name, options
        self.entry = registry().model(name)

    @cached_property
    def model(self) -> GenerativeModel:
        """One that is trained for an epoch."""
        return train_model(self.name, blobs(64), device="cpu", **{"epochs": 1, **self.options})

    @cached_property
    def images(self) -> Tensor:
        """Training-like images, noise, black, grey and white."""
        grey = torch.zeros(1, 1, 32, 32, dtype=torch.uint8)
        return torch.cat([blobs(3, seed=3).images, noise(2).images, grey, grey + 127, grey + 255])

    def _log_prob(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return self.model.log_prob(images)

    def check_finite_on_any_image(self) -> None:
        """Log p(x) is finite on noise, black, grey and white images."""
        for function in (self.model.log_prob, self.model.log_likelihood):
            with torch.no_grad():
                log_p = function(self.images)
            assert log_p.shape == (len(self.images),), f"log-probabilities have shape {tuple(log_p.shape)}."
            assert log_p.isfinite().all(), f"not finite on noise, black, grey or white images: {log_p}."

    def check_alone_as_in_a_batch(self) -> None:
        """Log p(x) is the same alone as among others."""
        for function in (self.model.log_prob, self.model.log_likelihood):
            with torch.no_grad():
                alone = torch.cat([function(image[None]) for image in self.images])
                assert_same(alone, function(self.images), f"{function.__name__}, alone against in a batch")

    def check_deterministic(self) -> None:
        """`log_prob` twice gives the same numbers."""
        assert torch.equal(self._log_prob(self.images), self._log_prob(self.images)), "log_prob is not deterministic."

    def check_gradients_of_its_layers(self) -> None:
        """Each layer of `curvature_layers()` has a gradient per image."""
        layers = self.model.curvature_layers()
        assert layers, "curvature_layers() is empty: ROSE has nothing to look at."
        for name, gradient in layer_gradients(self.model, self.images, layers).items():
            assert gradient.dense().isfinite().all(), f"the gradient of {name} is not finite."
            assert gradient.dense().any(), f"log_prob does not depend on {name}."

    def check_gradients_alone_as_in_a_batch(self) -> None:
        """Each layer's gradient is the same alone as among others: its first axis is the images."""
        layers = self.model.curvature_layers()
        together = layer_gradients(self.model, self.images, layers)
        alone = [layer_gradients(self.model, image[None], layers) for image in self.images]
        for name, gradient in together.items():
            norms = torch.cat([one[name].squared_norm() for one in alone])
            assert_same(norms, gradient.squared_norm(), f"the gradient of {name}, alone against in a batch")

    def check_statistics_are_per_image(self) -> None:
        """Each of `statistics` is one number per image, the same alone."""
        with torch.no_grad():
            together = self.model.statistics(self.images)
            for name, values in together.items():
                assert values.shape == (len(self.images),), f"{name} has shape {tuple(values.shape)}."
                alone = torch.cat([self.model.statistics(image[None])[name] for image in self.images])
                assert_same(alone, values, f"{name}, alone against in a batch")

    def check_one_pass_gives_both(self) -> None:
        """`log_prob_and_statistics` gives what `log_prob` and `statistics` give."""
        with torch.no_grad():
            log_prob, statistics = self.model.log_prob_and_statistics(self.images)
            assert_same(log_prob, self.model.log_prob(self.images), "log_prob, with statistics against without")
            for name, values in self.model.statistics(self.images).items():
                assert name in statistics, f"log_prob_and_statistics has no {name}."
                assert_same(statistics[name], values, f"{name}, with log_prob against without")

    def check_reconstructions_are_images(self) -> None:
        """`reconstruct` gives images, each the same alone but for rounding.

        Raises:
            SkipTest: the model has no `decode`.
        """
        model = self.model
        if not isinstance(model, LatentVariableModel) or type(model).decode is LatentVariableModel.decode:
            raise SkipTest("the model has no decode")
        together = model.reconstruct(self.images)
        assert together.dtype == torch.uint8, f"reconstructions are {together.dtype}, not uint8."
        assert together.shape == self.images.shape, f"reconstructions have shape {tuple(together.shape)}."
        alone = torch.cat([model.reconstruct(image[None]) for image in self.images])
        other = float((alone != together).double().mean())
        assert other <= ROUNDED, f"{other:.0%} of the sub-pixels differ, alone against in a batch."

    def check_saved_and_loaded(self) -> None:
        """The weights and options are all that log p(x) needs."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.oodkit"
            self.model.save(path)
            again = load_model(path, device="cpu")
        with torch.no_grad():
            assert torch.equal(again.log_prob(self.images), self._log_prob(self.images)), "changed by save and load."

    def check_fresh_is_an_untrained_twin(self) -> None:
        """`fresh()` has the same options and other weights."""
        twin = self.model.fresh(seed=7)
        assert twin.options == self.model.options and twin.name == self.name, "fresh() has other options or no name."
        assert any(not torch.equal(a, b) for a, b in zip(twin.parameters(), self.model.parameters(), strict=True))

    def check_seed_makes_the_weights(self) -> None:
        """The seed alone decides the first weights."""
        shape = self.model.image_shape
        a, b, c = (create_model(self.name, shape, seed=s, device="cpu", **self.options) for s in (3, 3, 4))
        assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True)), (
            "seed 3 gave two models."
        )
        assert any(not torch.equal(x, y) for x, y in zip(a.parameters(), c.parameters(), strict=True)), (
            "seeds do nothing."
        )

    def check_bad_input_is_refused(self) -> None:
        """Images and options of a wrong kind are refused."""
        grey = ImageSet("grey", "train", self.images)
        for images, what in (
            (grey.images.float(), "float images"),
            (grey.images[:0], "an empty batch"),
            (grey.images[:, :, :16], "images of another size"),
        ):
            assert_refused(lambda images=images: train_model(self.model, images, epochs=0), ImageError, what)  # type: ignore[misc]  # mypy does not infer a default
        assert_refused(
            lambda: create_model(self.name, grey.image_shape, no_such_option=1), OptionError, "an unknown option"
        )

    def check_nothing_global_is_touched(self) -> None:
        """Random states, settings and environment stay as they were."""
        before = Surroundings()
        train_model(self.name, blobs(8), device="cpu", **{"epochs": 1, **self.options})
        before.assert_untouched()

    def check_memory_is_returned(self) -> None:
        """A dropped model leaves no tensor behind."""
        assert self.model is not None  # what is made once and kept is there
        before = tensor_bytes()
        train_model(self.name, blobs(8), device="cpu", **{"epochs": 1, **self.options})
        kept = tensor_bytes() - before
        assert kept <= 0, f"{kept:,} bytes of tensors outlive the model that was trained and dropped."

    def check_options_are_documented_and_honoured(self) -> None:
        """Each option has a description and a line that reads it."""
        kind = model_options(self.entry)
        assert_documented(kind)
        assert_options_are_read(kind)
        expected = kind.parse(self.name, self.options)
        given = {name: getattr(self.model.options, name, "nothing") for name in self.options}
        assert given == {name: getattr(expected, name) for name in self.options}, f"options became {given}."

    def check_nothing_is_pickled(self) -> None:
        """No line of the package pickles or unpickles."""
        assert_no_pickle(self.entry.spec.target)

    def check_hooks_do_not_import_torch(self) -> None:
        """`oodkit list` stays quick: the hooks import no torch."""
        assert_lazy(self.entry.module)
