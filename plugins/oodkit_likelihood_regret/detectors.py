"""Likelihood regret: what log p(x) gains when q(z|x) is fitted to the one image.

Source: Xiao et al. 2020, "Likelihood Regret: An Out-of-Distribution Detection Score For Variational Auto-encoder",
arXiv:2003.02977.
"""

import math
from abc import abstractmethod
from typing import TypeVar

import torch
from torch import Tensor

from oodkit import Detector, ImageSet, importance_weighted, kl_divergence
from oodkit_likelihood_regret.encoders import EncoderPerImage, encoder_weights
from oodkit_likelihood_regret.options import EncoderRegretOptions, LatentRegretOptions, RegretOptions

__all__ = ["EncoderRegret", "LatentRegret", "Regret"]

OptionsT = TypeVar("OptionsT", bound=RegretOptions)


class Regret(Detector[OptionsT]):
    """log p(x) after the fit less log p(x) before it, in nats, both by the same importance samples.

    All noise is drawn once from the seed and used for every image alike: a score does not depend on the neighbours.
    Both log p(x) are of the model's own precision, whatever the option `bfloat16` does to the steps.
    """

    def _fit(self, images: ImageSet) -> dict[str, Tensor]:
        return {}  # nothing to learn: the model is all

    def _score(self, images: Tensor) -> Tensor:
        at_once = self.options.images_at_once or self._images_at_once(images)
        return torch.cat([self._regret(chunk) for chunk in images.chunk(math.ceil(len(images) / at_once))])

    def _images_at_once(self, images: Tensor) -> int:
        return len(images)

    def _regret(self, images: Tensor) -> Tensor:
        mean, log_variance = self.model.encode(images)
        generator = torch.Generator().manual_seed(self.options.seed)
        k, steps, z = self.options.samples, self.options.steps, mean.shape[1]
        # One stream: the samples that judge the fit are not those that it was made with.
        noise = torch.randn(k + steps, 1, z, generator=generator, dtype=torch.float64).to(mean)
        before = importance_weighted(self.model, images, mean, log_variance, noise[:k])
        fitted = self._fit_posterior(images, mean, log_variance, noise[k:])
        return importance_weighted(self.model, images, *fitted, noise[:k]) - before

    @abstractmethod
    def _fit_posterior(
        self, images: Tensor, mean: Tensor, log_variance: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of q(z|x), (N, Z) each, after one step for each of `noise`, (steps, 1, Z)."""

    def _negative_elbo_gradient(
        self, images: Tensor, mean: Tensor, log_variance: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients of −ELBO at z = mean + σ·noise in mean and log-variance, (N, Z); noise is (1, Z)."""
        with torch.enable_grad():
            mean, log_variance = mean.detach().requires_grad_(), log_variance.detach().requires_grad_()
            z = mean + (0.5 * log_variance).exp() * noise
            with torch.autocast(images.device.type, torch.bfloat16, enabled=self.options.bfloat16):
                log_p = self.model.log_prob_given(images, z)
            loss = kl_divergence(mean, log_variance) - log_p
            # asked for by name, so that the decoder passes gradients on and computes none of its own weights
            d_mean, d_log_variance = torch.autograd.grad(loss.sum(), (mean, log_variance))
        return d_mean, d_log_variance


class EncoderRegret(Regret[EncoderRegretOptions]):
    """LR(E): each image has a copy of the encoder, which Adam fits to it."""

    def _images_at_once(self, images: Tensor) -> int:
        budget = (8 if images.is_cuda else 1) * 2**30
        # of each weight, its gradient and Adam's two moments
        return max(1, budget // (4 * sum(weight.nbytes for weight in encoder_weights(self.model, images[:1]))))

    def _fit_posterior(
        self, images: Tensor, mean: Tensor, log_variance: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        encoders = EncoderPerImage(self.model, images)
        adam = torch.optim.Adam(
            encoders.weights, lr=self.options.learning_rate, weight_decay=self.options.weight_decay, fused=True
        )
        for eps in noise:
            with torch.enable_grad():
                q = encoders(images)
            gradients = torch.autograd.grad(q, encoders.weights, self._negative_elbo_gradient(images, *q, eps))
            for weight, gradient in zip(encoders.weights, gradients, strict=True):
                weight.grad = gradient.contiguous()  # the fused step reads memory as if it lay like the weight's
            adam.step()
        return encoders(images)


class LatentRegret(Regret[LatentRegretOptions]):
    """LR(Z): Adam fits the mean and the log-variance of q(z|x) themselves."""

    def _fit_posterior(
        self, images: Tensor, mean: Tensor, log_variance: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        q = mean.clone(), log_variance.clone()
        adam = torch.optim.Adam(q, lr=self.options.learning_rate)
        for eps in noise:
            for value, gradient in zip(q, self._negative_elbo_gradient(images, *q, eps), strict=True):
                value.grad = gradient
            adam.step()
        return q
