"""`Density`: how unlike those of in-distribution images a few numbers per image are.

Each kind is fitted once, on in-distribution values (M, K), and never again: the score of an image does not depend on
the images beside it. All arithmetic is in float64, and all that is learnt is in `state`, which detectors save.

Every kind first brings the K statistics to one scale: the logarithm of those that are positive on all fitting images
(norms, lengths and quadratic forms spread by a factor, not by a difference), less the mean, over the deviation.

| kind | score of u, the K numbers on that scale |
| --- | --- |
| mahalanobis | uᵀ R⁻¹ u, R the shrunk correlation matrix (Ledoit & Wolf 2004) |
| tails | Σ_k −log of the two-sided empirical tail of u_k (as COPOD: Li et al. 2020, arXiv:2009.09463, but inductive) |
| kde | Σ_k −log p_k(u_k), p_k a Gaussian kernel estimate (as DoSE: Morningstar et al. 2021, arXiv:2006.09273) |
| mixture | −log p(u), p a mixture of Gaussians with full covariances |
"""

import math
import warnings
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from oodkit.errors import ImageError
from oodkit.options import DensityOptions

__all__ = ["Density", "fit_density", "load_density"]

TAIL_SHARE = 0.05  # of the fitting values, how many decide how fast a tail falls beyond the last of them
PER_NUMBER = 8  # images for each of a component's K numbers, so that its covariance is not of a handful
RIDGE = 1e-3  # added to each variance of a mixture: a component may sit on a few images


class Density(ABC):
    """A fitted density over K statistics; made by `fit_density`, or by `load_density` from a saved state.

    Attributes:
        state: all that was learnt, float64 (`logarithm`: bool).
    """

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = state

    def score(self, values: Tensor) -> Tensor:
        """Return how unlike the fitting values each row of (N, K) is, (N,), float64; higher = more OOD."""
        return self._score(self.standardised(values))

    def contributions(self, values: Tensor) -> Tensor:
        """Return each statistic's share of the score, (N, K), float64; for all kinds but the mixture they add up to it.

        mahalanobis: the squares of R^(-1/2) u, the decorrelation that keeps nearest to the statistics themselves
        (Garthwaite & Koch 2016, doi:10.1111/anzs.12143). mixture: the same, under the component that u most likely
        comes from.
        """
        return self._contributions(self.standardised(values))

    def standardised(self, values: Tensor) -> Tensor:
        """Return u, (N, K), float64: how many deviations each statistic lies from its mean, on its own scale."""
        return (_on_scale(values, self.state["logarithm"]) - self.state["mean"]) / self.state["deviation"]

    @classmethod
    @abstractmethod
    def _fit(cls, u: Tensor, options: DensityOptions) -> dict[str, Tensor]:
        """Return what is learnt from standardised values (M, K) on the CPU."""

    @abstractmethod
    def _score(self, u: Tensor) -> Tensor:
        """Return (N,) of (N, K)."""

    @abstractmethod
    def _contributions(self, u: Tensor) -> Tensor:
        """Return (N, K) of (N, K)."""


def fit_density(values: Tensor, options: DensityOptions) -> Density:
    """Return the density of `values`, (M, K), of in-distribution images; on their device.

    Raises:
        ImageError: fewer than 3 rows, or a value that is not finite.
    """
    if len(values) < 3:
        raise ImageError(f"a density needs at least 3 images, to have a mean and a spread; got {len(values)}.")
    if not values.isfinite().all():
        raise ImageError("a statistic of the fitting images is not finite; train the model again, or leave it out.")
    values = values.double()
    logarithm = (values > 0).all(0)
    scaled = _on_scale(values, logarithm)
    mean = scaled.mean(0)
    # A statistic that never varies must not make rounding look strange.
    deviation = scaled.std(0).clamp_min(1e-6).maximum(1e-6 * mean.abs())
    learnt = KINDS[options.density]._fit(((scaled - mean) / deviation).cpu(), options)
    state = {"logarithm": logarithm, "mean": mean, "deviation": deviation, **learnt}
    return load_density({key: value.to(values.device) for key, value in state.items()}, options)


def load_density(state: dict[str, Tensor], options: DensityOptions) -> Density:
    """Return the density that `fit_density` learnt, from its `state`."""
    return KINDS[options.density](state)


def _on_scale(values: Tensor, logarithm: Tensor) -> Tensor:
    values = values.double()
    return torch.where(logarithm, values.clamp_min(torch.finfo(torch.float64).tiny).log(), values)


class Mahalanobis(Density):
    @classmethod
    def _fit(cls, u: Tensor, options: DensityOptions) -> dict[str, Tensor]:
        correlation = u.T @ u / len(u)
        if options.shrinkage is None:
            from sklearn.covariance import ledoit_wolf  # a second to import, and scoring needs none of it

            correlation = torch.from_numpy(ledoit_wolf(u.numpy(), assume_centered=True)[0])
        else:
            correlation = (1 - options.shrinkage) * correlation + options.shrinkage * torch.eye(u.shape[1]).double()
        return {"root": _inverse_root(correlation)}

    def _score(self, u: Tensor) -> Tensor:
        return self._contributions(u).sum(1)

    def _contributions(self, u: Tensor) -> Tensor:
        return (u @ self.state["root"]).square()


class Tails(Density):
    """Two-sided empirical tails; beyond the last fitting value they fall exponentially, so that nothing ties there."""

    @classmethod
    def _fit(cls, u: Tensor, options: DensityOptions) -> dict[str, Tensor]:
        rows = u.T.sort(1).values.contiguous()  # (K, M): searchsorted looks along the last axis
        count = max(1, round(TAIL_SHARE * rows.shape[1]))
        excess = rows[:, -count:].mean(1) - rows[:, -count - 1], rows[:, count] - rows[:, :count].mean(1)
        return {"sorted": rows, "upper_excess": excess[0].clamp_min(1e-6), "lower_excess": excess[1].clamp_min(1e-6)}

    def _score(self, u: Tensor) -> Tensor:
        return self._contributions(u).sum(1)

    def _contributions(self, u: Tensor) -> Tensor:
        rows, columns = self.state["sorted"], u.T.contiguous()
        count = rows.shape[1]
        above = count - torch.searchsorted(rows, columns)  # how many are as large or larger
        below = torch.searchsorted(rows, columns, right=True)  # as small or smaller
        tail = (2 * (torch.minimum(above, below) + 1) / (count + 1)).clamp_max(1)
        beyond = (columns - rows[:, -1:]).clamp_min(0) / self.state["upper_excess"][:, None]
        beyond = beyond + (rows[:, :1] - columns).clamp_min(0) / self.state["lower_excess"][:, None]
        return (beyond - tail.double().log()).T


class Kde(Density):
    """Kernels of width M^(-1/5) (Scott), one dimension at a time."""

    @classmethod
    def _fit(cls, u: Tensor, options: DensityOptions) -> dict[str, Tensor]:
        return {"points": u}

    def _score(self, u: Tensor) -> Tensor:
        return self._contributions(u).sum(1)

    def _contributions(self, u: Tensor) -> Tensor:
        points = self.state["points"]
        width = len(points) ** -0.2
        columns = [
            torch.logsumexp(-0.5 * ((u[:, k, None] - points[:, k]) / width).square(), 1) for k in range(u.shape[1])
        ]
        return math.log(len(points) * width * math.sqrt(2 * math.pi)) - torch.stack(columns, 1)


class Mixture(Density):
    @classmethod
    def _fit(cls, u: Tensor, options: DensityOptions) -> dict[str, Tensor]:
        components = min(options.components, max(1, len(u) // (PER_NUMBER * u.shape[1])))
        from sklearn.exceptions import ConvergenceWarning  # as above
        from sklearn.mixture import GaussianMixture

        mixture = GaussianMixture(components, reg_covar=RIDGE, random_state=options.seed, max_iter=200)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # what it has after 200 steps will do
            mixture.fit(u.numpy())
        covariances = torch.from_numpy(mixture.covariances_)
        return {
            "log_weights": torch.from_numpy(mixture.weights_).log(),
            "means": torch.from_numpy(mixture.means_),
            "roots": torch.stack([_inverse_root(c) for c in covariances]),
            "log_dets": torch.linalg.slogdet(covariances).logabsdet,
        }

    def _score(self, u: Tensor) -> Tensor:
        return -torch.logsumexp(self._log_joint(u), 1)

    def _contributions(self, u: Tensor) -> Tensor:
        nearest = self._log_joint(u).argmax(1)
        return self._squares(u)[torch.arange(len(u), device=u.device), nearest]

    def _squares(self, u: Tensor) -> Tensor:
        centred = u[:, None] - self.state["means"]  # (N, components, K)
        return torch.einsum("nck,ckl->ncl", centred, self.state["roots"]).square()

    def _log_joint(self, u: Tensor) -> Tensor:
        """Return the log of weight times density of each component, (N, components)."""
        constant = self.state["log_weights"] - 0.5 * (self.state["log_dets"] + u.shape[1] * math.log(2 * math.pi))
        return constant - 0.5 * self._squares(u).sum(2)


def _inverse_root(matrix: Tensor) -> Tensor:
    """Return the symmetric inverse square root of a covariance; what is flat in it but for rounding is left out."""
    eigenvalues, eigenvectors = torch.linalg.eigh(matrix)
    kept = eigenvalues > 1e-10 * eigenvalues[-1]
    result: Tensor = eigenvectors * torch.where(kept, eigenvalues, 1).rsqrt().where(kept, 0) @ eigenvectors.T
    return result


KINDS: dict[str, type[Density]] = {"mahalanobis": Mahalanobis, "tails": Tails, "kde": Kde, "mixture": Mixture}
