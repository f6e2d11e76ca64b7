"""Detectors that read the likelihood in another way than "low is strange"."""

import torch
from torch import Tensor

from oodkit import Detector, GenerativeModel, ImageSet, log_likelihood, train_model
from oodkit_density.options import TypicalityOptions, WaicOptions

__all__ = ["Typicality", "Waic"]


class Typicality(Detector[TypicalityOptions]):
    """|−log p(x) − H|, H the mean of −log p over training images, in nats: an image can be too likely to be typical.

    Source: Nalisnick et al. 2019, "Detecting out-of-distribution inputs to deep generative models using typicality",
    arXiv:1906.02994, with batches of one image.
    """

    def _fit(self, images: ImageSet) -> dict[str, Tensor]:
        fitting = images.sample(self.options.fitting_images, self.options.seed)
        return {"entropy": -self.per_image(self._log_likelihood, fitting).double().mean()}

    def _score(self, images: Tensor) -> Tensor:
        return (-self._log_likelihood(images).double() - self.state["entropy"]).abs()

    def _log_likelihood(self, images: Tensor) -> Tensor:
        log_p = log_likelihood(self.model, images, samples=self.options.samples, seed=self.options.seed)
        return log_p


class Waic(Detector[WaicOptions]):
    """Var log p(x) − E log p(x) over an ensemble: the model, and twins that `fit` trains or that the user has.

    The variance is that of nats, as the paper has it: members that disagree on an image have not learnt it.

    Source: Choi, Jang & Alemi 2018, "WAIC, but why?", arXiv:1810.01392.
    """

    def _fit(self, images: ImageSet) -> dict[str, Tensor]:
        if (given := self.options.models) is not None:
            twins = (self.model.load_twin(path) for path in given)
        else:
            twins = (self._train(number, images) for number in range(1, self.options.members))
        return {
            f"{number}/{key}": weights
            for number, twin in enumerate(twins, 1)
            for key, weights in twin.state_dict().items()
        }

    def _score(self, images: Tensor) -> Tensor:
        estimate = {"samples": self.options.samples, "seed": self.options.seed}
        members = [self.model, *self.from_state(self._twins)]
        log_p = torch.stack([log_likelihood(m, images, **estimate) for m in members]).double()  # (members, N)
        return log_p.var(0) - log_p.mean(0)

    def _train(self, number: int, images: ImageSet) -> GenerativeModel:
        """Return a twin that is trained from a seed of its own."""
        options = self.options
        twin: GenerativeModel = self.model.fresh(seed=options.seed + number)
        recipe = {} if options.epochs is None else {"epochs": options.epochs}
        file = self.work_folder / f"member{number}.checkpoint" if self.work_folder is not None else None
        return train_model(twin, images, seed=options.seed + number, checkpoint=file, **recipe)

    def _twins(self) -> list[GenerativeModel]:
        """Return the twins of the state."""
        twins = []
        given = self.options.models
        for number in range(1, self.options.members if given is None else len(given) + 1):
            twin: GenerativeModel = self.model.fresh().eval()
            prefix = f"{number}/"
            twin.load_state_dict({k.removeprefix(prefix): v for k, v in self.state.items() if k.startswith(prefix)})
            twins.append(twin)
        return twins
