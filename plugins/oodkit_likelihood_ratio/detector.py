"""The likelihood ratio: what the model knows of an image that a model of perturbed images does not.

Source: Ren et al. 2019, "Likelihood Ratios for Out-of-Distribution Detection", arXiv:1906.02845, section 3.
"""

from dataclasses import replace

import torch
from torch import Tensor

from oodkit import Detector, GenerativeModel, ImageSet, Trainable, log_likelihood, optimise
from oodkit.perturbations import perturb
from oodkit_likelihood_ratio.options import LikelihoodRatioOptions

__all__ = ["LikelihoodRatio"]


class LikelihoodRatio(Detector[LikelihoodRatioOptions]):
    """log p_background(x) − log p(x), in nats: low where the model explains more of x than its background does.

    The background is a model of the same make, trained on perturbed images. Its weights are the detector's state.
    """

    def _fit(self, images: ImageSet) -> dict[str, Tensor]:
        given = self.options.background
        background = self._train(images) if given is None else self.model.load_twin(given)
        return {f"background.{key}": weights for key, weights in background.state_dict().items()}

    def _score(self, images: Tensor) -> Tensor:
        # One seed for both: where the likelihood is sampled, the same noise, which partly cancels.
        estimate = {"samples": self.options.samples, "seed": self.options.seed}
        log_background = self.from_state(self._background).log_likelihood(images, **estimate)
        log_p = log_likelihood(self.model, images, **estimate)
        return log_background - log_p

    def _train(self, images: ImageSet) -> GenerativeModel:
        """Return a background, trained by the model's own recipe where the options do not say otherwise."""
        options = self.options
        changes = {"weight_decay": options.weight_decay, "epochs": options.epochs}
        recipe = {key: value for key, value in changes.items() if value is not None}
        background: GenerativeModel = self.model.fresh(options.seed, **recipe)
        trained: Trainable = background
        if options.perturbation == "random":
            trained = Corrupted(background, options)
        else:  # deterministic: once is enough
            unused = torch.Generator()
            changed = self.per_image(
                lambda batch: perturb(batch, options.perturbation, unused, options.strength),
                images,
                text=options.perturbation,
            )
            images = replace(images, images=changed.cpu())
        # Named in the steps, so that a checkpoint of another perturbation is not taken for one of this.
        images = replace(images, steps=(*images.steps, f"{options.perturbation} (strength {options.strength})"))
        file = self.work_folder / "background.checkpoint" if self.work_folder is not None else None
        name = f"{self.name}'s background"
        self.training_record = optimise(
            trained, images, background.options, name=name, seed=options.seed, checkpoint=file
        )
        return background

    def _background(self) -> GenerativeModel:
        """Return the background of the state."""
        background: GenerativeModel = self.model.fresh().eval()
        background.load_state_dict({key.removeprefix("background."): w for key, w in self.state.items()})
        return background


class Corrupted(Trainable):
    """The background while it is trained with random values: drawn anew at each step, so that it cannot learn them."""

    def __init__(self, background: GenerativeModel, options: LikelihoodRatioOptions) -> None:
        super().__init__()
        self.background = background
        self.options = options

    def loss(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the background's loss on perturbed images."""
        perturbed = perturb(images, self.options.perturbation, generator, self.options.strength)
        return self.background.loss(perturbed, generator)
