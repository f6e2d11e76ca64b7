"""`GenerativeModel`: a density over images, with what detectors ask of it. `Classifier`: what stands in for one.

A model takes uint8 images and scales, dequantises and resizes by itself, so that no two components can disagree about
the range of the data.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Generator, Hashable, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from threading import Lock, RLock
from typing import Any, ClassVar, Self
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oodkit.artifact import read_artifact, write_artifact
from oodkit.errors import OptionError, PluginError, TrainingError
from oodkit.images import Shape
from oodkit.options import ClassifierOptions, ModelOptions
from oodkit.registry import registry
from oodkit.training import Trainable

__all__ = [
    "LAYERS",
    "Classifier",
    "GenerativeModel",
    "LatentVariableModel",
    "Layers",
    "build_model",
    "evaluating",
    "frozen",
    "importance_weighted",
    "kl_divergence",
    "log_likelihood",
]

# What `gradients.py` has factors of; of other parameters it takes the whole gradient.
LAYERS: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
Layers = str | type[nn.Module] | Sequence[str | type[nn.Module]]


class GenerativeModel(Trainable):
    """A density over images of one shape. Made by `create_model`, `train_model` or `load_model`.

    A plugin's model is built as `Model(image_shape, options)` and writes `log_prob`.

    Attributes:
        image_shape: (C, H, W) of the images that it takes.
        options: architecture and training recipe.
        name: the registered name, or "" for a model that no plugin registers.
        training_record: how it was trained: data, hash, seed, epochs, loss; empty when untrained.
        recall: what a benchmark remembers of this model: `log_likelihood` and `backward_pass` call it with the model, a
            question, images and a function that answers.
    """

    recall: Callable[["GenerativeModel", Hashable, Tensor, Callable[[], Any]], Any] | None = None  # Any: the answer
    _inside: ClassVar[str] = ""  # what the names of modules begin with, and a user need not write

    def __init__(self, image_shape: Shape, options: ModelOptions) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.options = options
        self.name = ""
        self.training_record: dict[str, Any] = {}  # Any: what JSON can hold

    @abstractmethod
    def log_prob(self, images: Tensor) -> Tensor:
        """Return log p(x) in nats, (N,), of uint8 (N, C, H, W): deterministic, differentiable in the parameters.

        Where log p is out of reach, the bound that stands for it (a VAE: the ELBO at the mean of q(z|x)).
        """

    def log_likelihood(self, images: Tensor, *, samples: int = 20, seed: int = 0) -> Tensor:
        """Return the best estimate of log p(x) in nats, (N,); `samples` and `seed` matter only where it is sampled."""
        del samples, seed
        return self.log_prob(images)

    def loss(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the training loss, nats per image, a scalar; noise comes from `generator`."""
        del generator
        return -self.log_prob(images).mean()

    def curvature_layers(self) -> list[str]:
        """Return the names of the layers (or bare parameters) whose gradients ROSE takes by default."""
        return [n for n, m in self.named_modules() if isinstance(m, LAYERS)]

    def matching_layers(self, names: Layers | None) -> list[str]:
        """Return the layers (or parameters) that `names` mean, one or several; of None, `curvature_layers()`.

        A name or a pattern ("trunk.*", where * crosses dots) means each Linear, Conv2d and ConvTranspose2d, and each of
        `curvature_layers()`, that it matches, in the model's order; where it matches none of these, each parameter. A
        type (`nn.Linear`) means each layer of it. In place of a layer that does more than its class (a masked Linear,
        say) come its parameters. Of what `adapt` made, names are those in the user's module.

        Raises:
            OptionError: a name, pattern or type that means nothing.
        """
        usual = self.curvature_layers()
        if names is None:
            return usual
        modules, parameters = dict(self.named_modules()), [name for name, _ in self.named_parameters()]
        layers, places = [n for n, m in modules.items() if isinstance(m, LAYERS)], list(modules)
        known = [*layers, *(name for name in usual if name not in layers)]
        known.sort(key=lambda n: places.index(n if n in modules else n.rpartition(".")[0]))
        found: list[str] = []
        for one in [names] if isinstance(names, str | type) else names:
            if isinstance(one, str):
                what = f"no layer or parameter is called {one!r}"
                matches = self._called(one, known) or self._called(one, parameters)
            else:
                what = f"no layer is a {one.__name__}"
                matches = [name for name in layers if isinstance(modules[name], one)]
            if not matches:
                there = ", ".join(name.removeprefix(self._inside) for name in known[:8]) or "none"
                raise OptionError(
                    f"{what}; layers whose gradients can be taken (Linear, Conv2d, ConvTranspose2d) are: {there}."
                )
            for name in matches:
                plain = name not in layers or any(type(modules[name]).forward is kind.forward for kind in LAYERS)
                parts = [name] if plain else [p for p in parameters if p.rpartition(".")[0] == name]
                found += [part for part in parts if part not in found]
        return found

    def _called(self, text: str, names: Sequence[str]) -> list[str]:
        """Return those of `names` that a text is, or matches, with `_inside` before the text or without."""
        texts = (text, text.removeprefix(self._inside))
        own = [(name, name.removeprefix(self._inside)) for name in names]
        return [name for name, short in own if any(short == one or fnmatchcase(short, one) for one in texts)]

    def statistics(self, images: Tensor) -> dict[str, Tensor]:
        """Return named numbers per image, (N,) each: what a density of statistics may look at."""
        return {"log_prob": self.log_prob(images)}

    def log_prob_and_statistics(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return `log_prob(images)`, differentiable, and `statistics(images)`.

        Here by two passes. A model whose statistics fall out of log p's own pass overrides it, and a detector that
        wants both costs one pass less.
        """
        with torch.no_grad():
            statistics = self.statistics(images)
        return self.log_prob(images), statistics

    def forward(self, images: Tensor) -> Tensor:
        """Return `log_prob(images)`: what `torch.func.functional_call` calls."""
        return self.log_prob(images)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the parameters."""
        return next(self.parameters()).dtype

    @property
    def dimensions(self) -> int:
        """The number of sub-pixels, C·H·W."""
        return math.prod(self.image_shape)

    def bits_per_dimension(self, nats: float) -> float:
        """Return `nats` per image in bits per sub-pixel."""
        return nats / (self.dimensions * math.log(2))

    def loss_text(self, nats: float) -> str:
        """Return a training loss, in nats per image, as it is shown."""
        return f"{self.bits_per_dimension(nats):.3f} bits/dim"

    def fresh(self, seed: int = 0, **changes: Any) -> Self:  # Any: an option's value
        """Return an untrained twin of the same device and dtype, its weights from `seed`; `changes` are options."""
        options = type(self.options).parse(self.name, {**self.options.model_dump(), **changes})
        twin: Self = build_model(type(self), self.image_shape, options, seed)
        twin.name = self.name
        return twin.to(device=self.device, dtype=self.dtype)

    def load_twin(self, path: str | Path) -> Self:
        """Return the model of the same make that `path` holds, on this one's device.

        Raises:
            ArtifactError: damaged, no model, or there is no such file.
            OptionError: it is of another make: its weights do not fit this one's.
        """
        header, weights = read_artifact(path, "model")
        if header.get("model") != self.name:
            raise OptionError(
                f"{path} holds a model of another make: it is {header.get('model')!r}, not {self.name!r}."
            )
        twin = self.fresh()
        try:
            twin.load_state_dict(weights)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise OptionError(
                f"{path} holds a model of another make than the {self.name} that is given ({reason}); train it with "
                "the same options."
            ) from error
        twin.check_weights()
        return twin.eval()

    def check_weights(self) -> None:
        """Refuse weights that are not finite.

        Raises:
            TrainingError: names the first tensor that holds NaN or infinity.
        """
        for name, tensor in self.state_dict().items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise TrainingError(f"the model's {name} holds NaN or infinity; train or load it again.")

    def describe(self) -> dict[str, Any]:  # Any: what JSON can hold
        """Return what, beside the weights, makes this model again: the header of its artifact."""
        origin = registry().models.get(self.name)
        return {
            "model": self.name,
            "origin": origin.origin if origin else "",
            "image_shape": list(self.image_shape),
            "options": self.options.model_dump(),
            "training": self.training_record,
        }

    def save(self, path: str | Path) -> None:
        """Write weights and options to one safetensors file, atomically; `load_model` reads it.

        Raises:
            PluginError: a model that no plugin registers: nobody could load it.
        """
        if not self.name:
            raise PluginError(
                f"{type(self).__name__} is not registered by a plugin; save a fitted detector, or the state_dict() of "
                "your module with safetensors."
            )
        write_artifact(path, "model", self.describe(), self.state_dict())


class LatentVariableModel(GenerativeModel):
    """p(x) = ∫ p(x|z) N(z; 0, I) dz with a Gaussian q(z|x). A plugin writes `encode` and `log_prob_given`.

    With `decode` it also shows reconstructions.
    """

    @abstractmethod
    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of q(z|x), (N, Z) each."""

    @abstractmethod
    def log_prob_given(self, images: Tensor, z: Tensor) -> Tensor:
        """Return log p(x|z) in nats, (N,), of images (N, C, H, W) at z (N, Z)."""

    def decode(self, z: Tensor) -> Tensor:
        """Return the expectation of p(x|z) as images, uint8 (N, C, H, W), of z (N, Z): each sub-pixel rounded.

        Raises:
            PluginError: a model that does not write this has no reconstructions to show.
        """
        raise PluginError(f"{self.name or type(self).__name__} has no decode(z), so it cannot show a reconstruction.")

    @torch.no_grad()
    def reconstruct(self, images: Tensor) -> Tensor:
        """Return what is left of images (N, C, H, W) on their way through z: `decode` at the mean of q(z|x), uint8.

        Raises:
            PluginError: the model has no `decode`.
        """
        return self.decode(self.encode(images)[0])

    def log_prob(self, images: Tensor) -> Tensor:
        """Return the ELBO at z = mean of q(z|x), in nats, (N,): without sampling, as the authors' code takes it."""
        mean, log_variance = self.encode(images)
        return self.log_prob_given(images, mean) - kl_divergence(mean, log_variance)

    def log_likelihood(self, images: Tensor, *, samples: int = 20, seed: int = 0) -> Tensor:
        """Return the importance-weighted estimate of log p(x) in nats, (N,).

        log mean_k p(x|z_k) p(z_k) / q(z_k|x), the maximum of the log-sum taken per image. The noise is one tensor
        drawn from `seed` and used for every image alike: an estimate does not depend on an image's neighbours.

        Source: Burda et al. 2016, arXiv:1509.00519, eq. (8).
        """
        mean, log_variance = self.encode(images)
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(samples, 1, mean.shape[1], generator=generator, dtype=torch.float64).to(mean)
        return importance_weighted(self, images, mean, log_variance, noise)

    def statistics(self, images: Tensor) -> dict[str, Tensor]:
        """Return four numbers per image, (N,): two parts of the ELBO at z = mean, in nats, and the norms of q(z|x)."""
        mean, log_variance = self.encode(images)
        return {
            "reconstruction_nll": -self.log_prob_given(images, mean),
            "kl": kl_divergence(mean, log_variance),
            "mean_norm": mean.norm(dim=1),
            "deviation_norm": (0.5 * log_variance).exp().norm(dim=1),
        }

    def loss(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return −ELBO with one sample of z, nats per image, a scalar."""
        mean, log_variance = self.encode(images)
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype).to(mean.device)
        z = mean + (0.5 * log_variance).exp() * noise
        return (kl_divergence(mean, log_variance) - self.log_prob_given(images, z)).mean()


class Classifier(GenerativeModel):
    """p(y|x), learnt from images with labels. A plugin writes `logits`.

    It is no density of images: its `log_prob` is that of its own answer, so that what asks only for gradients (ROSE)
    runs on it. Detectors that compare densities refuse it.

    Source: Choi et al. 2021, arXiv:2106.07903, appendix D.
    """

    needs_labels: ClassVar[bool] = True
    options: ClassifierOptions

    @abstractmethod
    def logits(self, images: Tensor) -> Tensor:
        """Return the unnormalised log-probabilities of the classes, (N, classes), of uint8 (N, C, H, W)."""

    def log_prob(self, images: Tensor) -> Tensor:
        """Return max_y log p(y|x) in nats, (N,): the log-probability of the class that it decides for."""
        return self.logits(images).log_softmax(1).max(1).values

    def predict(self, images: Tensor) -> Tensor:
        """Return the class that it decides for, int64 (N,)."""
        return self.logits(images).argmax(1)

    def labelled_loss(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Return the cross-entropy with the labels, int64 (N,), in nats per image, a scalar."""
        del generator
        return F.cross_entropy(self.logits(images), labels)

    def statistics(self, images: Tensor) -> dict[str, Tensor]:
        """Return log p of its answer and the entropy of p(y|x), in nats, and log Σ exp of the logits."""
        logits = self.logits(images)
        log_p = logits.log_softmax(1)
        return {
            "log_prob": log_p.max(1).values,
            "entropy": -(log_p.exp() * log_p).sum(1),
            "log_sum_exp": logits.logsumexp(1),
        }

    def loss_text(self, nats: float) -> str:
        """Return a training loss, in nats per image, as it is shown."""
        return f"cross-entropy {nats:.4f} nats"


@contextmanager
def evaluating(model: nn.Module) -> Generator[None]:
    """Keep a model in evaluation mode; each module's own mode comes back at the end."""
    modes = {m: m.training for m in model.modules()}
    try:
        model.eval()
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


_locks: WeakKeyDictionary[nn.Module, RLock] = WeakKeyDictionary()
_making_a_lock = Lock()


@contextmanager
def frozen(model: nn.Module) -> Generator[None]:
    """Keep a model in evaluation mode, with no weight that takes a gradient; both are undone at the end.

    One thread at a time: others wait, as they would find, and leave behind, another's half-undone settings.
    """
    with _making_a_lock:
        lock = _locks.setdefault(model, RLock())
    with lock, evaluating(model):
        wanted = {p: p.requires_grad for p in model.parameters()}
        try:
            model.requires_grad_(False)
            yield
        finally:
            for parameter, requires_grad in wanted.items():
                parameter.requires_grad_(requires_grad)


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, exp(log_variance)) ‖ N(0, I)) in nats, (N,), of (N, Z) each."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


def importance_weighted(
    model: LatentVariableModel, images: Tensor, mean: Tensor, log_variance: Tensor, noise: Tensor
) -> Tensor:
    """Return log mean_k p(x|z_k) p(z_k) / q(z_k|x) in nats, (N,), at z_k = mean + σ·noise_k, noise (K, 1 or N, Z)."""
    weights = []
    for eps in noise:  # one sample at a time: the decoder's output, 256 logits a sub-pixel, is the widest tensor
        z = mean + (0.5 * log_variance).exp() * eps
        # log p(z) − log q(z|x); the two (2π)^(Z/2) cancel
        log_ratio = 0.5 * (eps.square() + log_variance - z.square()).sum(1)
        weights.append(model.log_prob_given(images, z) + log_ratio)
    return torch.stack(weights).logsumexp(0) - math.log(len(noise))


def log_likelihood(model: GenerativeModel, images: Tensor, *, samples: int, seed: int) -> Tensor:
    """Return `model.log_likelihood`, (N,), nats; the detectors of one benchmark share it where they ask the same."""

    def make() -> Tensor:
        return model.log_likelihood(images, samples=samples, seed=seed)

    if model.recall is None:
        return make()
    log_p: Tensor = model.recall(model, ("log_likelihood", samples, seed), images, make)
    return log_p


def build_model(kind: type[Any], image_shape: Shape, options: ModelOptions, seed: int) -> Any:  # Any: kind's instance
    """Return an untrained model of a class, with weights from `seed`; the global random state is left as it was."""
    # torch's layers draw their weights from the global generator: fork it, so that the caller's stays as it was. It is
    # the CPU's alone: torch.manual_seed would seed every GPU's too.
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return kind(image_shape, options)
