"""What benchmarks/speed.py times: our detectors, the floors beneath them, the literature's way, and peers.

Each contender is a function of a batch of images. What they are is said in speed.py's own words.
"""

import contextlib
import logging
import math
import sys
import tempfile
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

import oodkit
from oodkit.model import frozen
from oodkit.registry import registry

MODELS = {
    "vae-grey": ("vae", (1, 32, 32)),  # the paper's for Fashion-MNIST
    "vae-colour": ("vae", (3, 32, 32)),  # and for CIFAR-10
    "glow": ("glow", (1, 32, 32)),
    "glow-fashion-mnist": ("glow-fashion-mnist", (1, 32, 32)),  # the paper's two, for a GPU
    "glow-cifar10": ("glow-cifar10", (3, 32, 32)),
}
FIT_IMAGES = 512
TRAINS = ("lratio", "rnd", "waic")  # their fits train networks; the time of a score does not depend on it


def random_images(count: int, shape: tuple[int, int, int], seed: int = 0) -> Tensor:
    """Return noise, uint8 (N, C, H, W)."""
    return torch.randint(256, (count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def model_of(kind: str, device: torch.device | str) -> oodkit.GenerativeModel:
    """Return one of MODELS, or that of FILE=SET."""
    if kind not in MODELS:
        return oodkit.load_model(kind.partition("=")[0], device=device)
    name, shape = MODELS[kind]
    model = oodkit.create_model(name, shape, device=device).eval()
    with torch.no_grad():
        model.log_prob(images_of(kind, "train", 8, shape).to(device))  # actnorm takes its scales from data
    return model


def images_of(kind: str, split: str, count: int, shape: tuple[int, int, int]) -> Tensor:
    """Return noise for one of MODELS, images of SET for FILE=SET, uint8 (N, C, H, W)."""
    if kind in MODELS:
        return random_images(count, shape, seed=1 if split == "train" else 2)
    images = oodkit.load_images(kind.partition("=")[2], split, limit=count, image_shape=shape).images
    return images.repeat(-(-count // len(images)), 1, 1, 1)[:count]


def make_detector(name: str, model: oodkit.GenerativeModel, batch_size: int) -> oodkit.Detector:
    """Return a detector, not fitted; one that trains networks does so for no epoch."""
    options = {"epochs": 0} if name.startswith(TRAINS) else {}
    return oodkit.create_detector(name, model, batch_size=batch_size, **options)


def outputs_of_layers(model: oodkit.GenerativeModel, images: Tensor, layers: list[str]) -> tuple[Tensor, list[Tensor]]:
    """Return log p, (N,), and what leaves the layers on the way to it; of bare parameters, themselves."""
    outputs: list[Tensor] = []

    def keep(_module: torch.nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        output = output if output.requires_grad else output.detach().requires_grad_()
        outputs.append(output)
        return output.clone()

    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    handles = [modules[name].register_forward_hook(keep) for name in layers if name in modules]
    outputs += [parameters[name].requires_grad_() for name in layers if name not in modules]
    try:
        return model.log_prob(images), outputs
    finally:
        for handle in handles:
            handle.remove()


class Contenders:
    """What is timed: functions of a batch of images on the device, by name."""

    def __init__(self, kind: str, detectors: list[str], device: torch.device, peers: bool) -> None:
        self.kind = kind
        self.model = model_of(kind, device)
        self.shape = self.model.image_shape
        self.layers = self.model.curvature_layers()
        fitting = images_of(kind, "train", FIT_IMAGES, self.shape)
        self.detectors = {}
        self.fit_seconds = {}
        self.peaks = detectors != ["all"]  # a process for each would take longer than all else
        for name in registry().detectors if detectors == ["all"] else detectors:
            try:
                detector = make_detector(name, self.model, 64)
                self.fit_seconds[name] = seconds(lambda detector=detector: detector.fit(fitting), device)
            except oodkit.OodkitError as error:  # it needs latent variables, or smaller layers
                print(f"not {name}: {error}", file=sys.stderr)
                continue
            self.detectors[name] = detector
        self.fitting = fitting
        self.work: dict[str, Callable[[Tensor], object]] = {
            "forward": self.forward,
            "plain floor": self.plain_floor,
            "floor": self.floor,
            **{d: self.scorer(d) for d in self.detectors},
            "training": self.trainer(),
            "naive": self.naive,
            "nll loop": self.nll_loop,
        }
        if not isinstance(self.model, oodkit.LatentVariableModel):
            del self.work["nll loop"]
        if not all(map(self.conv, self.layers)):
            del self.work["naive"]  # it knows no bare parameters
        convolutions = all(isinstance(dict(self.model.named_modules()).get(n), torch.nn.Conv2d) for n in self.layers)
        for peer, prepare in {"kronfluence": self.kronfluence, "nngeometry": self.nngeometry}.items():
            with contextlib.suppress(ImportError):
                if peers and convolutions and device.type == "cpu":
                    self.work[peer] = prepare()

    def forward(self, images: Tensor) -> None:
        """Run log p alone."""
        with torch.no_grad():
            self.model.log_prob(images)

    def plain_floor(self, images: Tensor) -> None:
        """Differentiate log p as autograd does: the weights take gradients, though none is asked for."""
        log_p, outputs = outputs_of_layers(self.model, images, self.layers)
        torch.autograd.grad(log_p.sum(), outputs)

    def floor(self, images: Tensor) -> None:
        """Differentiate log p with frozen weights."""
        with frozen(self.model):
            self.plain_floor(images)

    def scorer(self, detector: str) -> Callable[[Tensor], object]:
        """Return the public way to score."""

        def score(images: Tensor) -> None:
            self.detectors[detector].batch_size = len(images)
            self.detectors[detector].score(images.cpu())

        return score

    def trainer(self) -> Callable[[Tensor], object]:
        """Return a step of training, on a twin."""
        twin = self.model.fresh().train()
        optimizer = torch.optim.Adam(twin.parameters(), 1e-4)
        generator = torch.Generator().manual_seed(0)

        def step(images: Tensor) -> None:
            optimizer.zero_grad()
            twin.loss(images, generator).backward()
            optimizer.step()

        return step

    def naive(self, images: Tensor) -> None:
        """Score by EKFAC with one dense gradient for each image and layer."""
        rose = self.detectors["rose-ekfac"]
        weights = [dict(self.model.named_parameters())[f"{layer}.weight"] for layer in self.layers if self.conv(layer)]
        for image in images.split(1):
            gradients = torch.autograd.grad(self.model.log_prob(image).sum(), weights)
            for layer, gradient in zip(filter(self.conv, self.layers), gradients, strict=True):
                state = {k.removeprefix(f"{layer}/"): v for k, v in rose.state.items() if k.startswith(f"{layer}/")}
                s = gradient.flatten(1)
                width = s.shape[1]  # a bias, one column more, is left out: to the advantage of this contender
                rotated = state["axes_out"] @ s @ state["axes_in"].T[:width, :width]
                (rotated.square() / (state["eigenvalues"][:, :width] + 1e-8)).sum()

    def conv(self, layer: str) -> bool:
        """Return whether a layer is a module with a weight."""
        return f"{layer}.weight" in dict(self.model.named_parameters())

    @torch.no_grad()
    def nll_loop(self, images: Tensor, samples: int = 20) -> None:
        """Estimate log p(x) by importance samples, one image and one sample at a time."""
        for image in images.split(1):
            mean, log_variance = self.model.encode(image)
            terms = []
            for _ in range(samples):
                eps = torch.randn_like(mean)
                z = mean + (0.5 * log_variance).exp() * eps
                ratio = 0.5 * (eps.square() + log_variance - z.square()).sum(1)
                logits = self.model.logits(z).flatten(0, 3)
                values = image.permute(0, 2, 3, 1).flatten().long()
                terms.append(ratio - torch.nn.functional.cross_entropy(logits, values, reduction="sum"))
            torch.stack(terms).logsumexp(0) - math.log(samples)

    def kronfluence(self) -> Callable[[Tensor], object]:
        """Fit kronfluence's EKFAC and return its self-influence scores."""
        from kronfluence.analyzer import Analyzer, prepare_model
        from kronfluence.arguments import FactorArguments, ScoreArguments
        from kronfluence.task import Task
        from kronfluence.utils.dataset import DataLoaderKwargs

        layers = self.layers

        class MinusLogProb(Task):
            def compute_train_loss(self, batch: list[Tensor], model: torch.nn.Module, sample: bool = False) -> Tensor:
                return -model(batch[0]).sum()

            def compute_measurement(self, batch: list[Tensor], model: torch.nn.Module) -> Tensor:
                return -model(batch[0]).sum()

            def get_influence_tracked_modules(self) -> list[str]:
                return layers

        logging.disable(logging.WARNING)
        folder, task = tempfile.mkdtemp(), MinusLogProb()
        twin = model_of(self.kind, "cpu")
        twin.load_state_dict(self.model.state_dict())
        analyzer = Analyzer("speed", prepare_model(twin, task), task, cpu=True, disable_tqdm=True, output_dir=folder)
        analyzer.set_dataloader_kwargs(DataLoaderKwargs(num_workers=0))
        analyzer.fit_all_factors(
            "ekfac",
            TensorDataset(self.fitting),
            per_device_batch_size=32,
            factor_args=FactorArguments(strategy="ekfac", use_empirical_fisher=True),
            overwrite_output_dir=True,
        )

        def score(images: Tensor) -> None:
            analyzer.compute_self_scores(
                "self",
                "ekfac",
                TensorDataset(images),
                per_device_train_batch_size=len(images),
                score_args=ScoreArguments(damping_factor=1e-8),
                overwrite_output_dir=True,
            )

        return score

    def nngeometry(self) -> Callable[[Tensor], object]:
        """Return nngeometry's gradients per image."""
        from nngeometry.backend import TorchHooksJacobianBackend
        from nngeometry.layercollection import LayerCollection

        modules, collection = dict(self.model.named_modules()), LayerCollection()
        for layer in self.layers:
            collection.add_layer(layer, LayerCollection._module_to_layer(modules[layer]))
        backend = TorchHooksJacobianBackend(
            model=self.model, function=lambda x: self.model.log_prob(x).unsqueeze(1), layer_collection=collection
        )
        return lambda images: backend.get_jacobian((images.float(),))


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return how long `work` takes, with all that it left on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
