"""Likelihood regret: what log p(x) gains when q(z|x) is fitted to the one image.

Source: Xiao et al. 2020, "Likelihood Regret: An Out-of-Distribution Detection Score For Variational Auto-encoder",
arXiv:2003.02977.
"""

from abc import abstractmethod
from typing import TypeVar

import torch
from torch import Tensor

from oodkit import Detector, ImageSet, LatentVariableModel, importance_weighted, kl_divergence
from oodkit_likelihood_regret.encoders import EncoderPerImage
from oodkit_likelihood_regret.options import EncoderRegretOptions, LatentRegretOptions, RegretOptions

__all__ = ["EncoderRegret", "LatentRegret", "Regret"]

OptionsT = TypeVar("OptionsT", bound=RegretOptions)


class Regret(Detector[OptionsT]):
    """log p(x) after the fit less log p(x) before it, in nats, both by the same importance samples.

    All noise is drawn once from the seed and used for every image alike: a score does not depend on the neighbours.
    """

    def _fit(self, images: ImageSet) -> dict[str, Tensor]:
        return {}  # nothing to learn: the model is all

    def _score(self, images: Tensor) -> Tensor:
        at_once = self.options.images_at_once or (128 if images.is_cuda else 16)
        return torch.cat([self._regret(chunk) for chunk in images.split(at_once)])

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


class EncoderRegret(Regret[EncoderRegretOptions]):
    """LR(E): each image has a copy of the encoder, which Adam fits to it."""

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
            gradients = torch.autograd.grad(q, encoders.weights, negative_elbo_gradient(self.model, images, *q, eps))
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
            for value, gradient in zip(q, negative_elbo_gradient(self.model, images, *q, eps), strict=True):
                value.grad = gradient
            adam.step()
        return q


def negative_elbo_gradient(
    model: LatentVariableModel, images: Tensor, mean: Tensor, log_variance: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradients of −ELBO at z = mean + σ·noise in mean and log-variance, (N, Z) each; noise is (1, Z)."""
    with torch.enable_grad():
        mean, log_variance = mean.detach().requires_grad_(), log_variance.detach().requires_grad_()
        z = mean + (0.5 * log_variance).exp() * noise
        loss = kl_divergence(mean, log_variance) - model.log_prob_given(images, z)
        # asked for by name, so that the decoder passes gradients on and computes none of its own weights
        d_mean, d_log_variance = torch.autograd.grad(loss.sum(), (mean, log_variance))
    return d_mean, d_log_variance
