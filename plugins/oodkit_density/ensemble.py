"""Any detectors, joined by their p-values.

Sources: Fisher 1932; Liu & Xie 2020, arXiv:1808.09011 (Cauchy).
"""

import math
from typing import Any

import torch
from torch import Tensor

from oodkit import Detector, Explanation, ImageError, ImageSet, create_detector, detector_versions
from oodkit_density.options import EnsembleOptions

__all__ = ["Ensemble"]

TAIL_SHARE = 0.05  # of the kept images' scores, how many decide how fast the tail falls beyond the highest
FEWEST = 15  # images: a fifth of them makes the p-values


class Ensemble(Detector[EnsembleOptions]):
    """Members' scores as p-values among training images kept from them, joined.

    Beyond the highest of the kept images' scores, p falls as 1/(1 + distance/scale): the order of very strange images
    is not lost, and no member drowns the others. Members depend on each other, so what joins them is a score;
    `calibrate` makes a p-value of it.
    """

    def _fit(self, images: ImageSet) -> dict[str, Tensor]:
        if len(images) < FEWEST:
            raise ImageError(f"{self.name} needs at least {FEWEST} images to fit; got {len(images)}.")
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(self.options.seed))
        apart = max(3, min(self.options.calibration_images, len(images) // 5))
        fitting, kept = images.select(order[apart:].sort().values), images.select(order[:apart].sort().values)
        state = {}
        for number, member in enumerate(self._create()):
            if self.work_folder is not None:
                member.work_folder = self.work_folder / f"member{number}"
                member.work_folder.mkdir(exist_ok=True)
            scores = member.fit(fitting).score(kept).double().sort().values
            state |= {f"{number}/state/{key}": value for key, value in member.state.items()}
            state[f"{number}/scores"] = scores
        return state

    def _score(self, images: Tensor) -> Tensor:
        log_p = self._log_p(images)
        if self.options.combine == "fisher":
            return -2 * log_p.sum(1)
        if self.options.combine == "min":
            return -log_p.amin(1)
        # tan((1/2 − p)π) = 1/tan(pπ); asinh keeps the order and fits into float32
        return torch.asinh((1 / (math.pi * log_p.exp().clamp(1e-300, 1 - 1e-12)).tan()).mean(1))

    def _explain(self, images: Tensor) -> Explanation:
        log_p = self._log_p(images)
        normal = torch.distributions.Normal(0.0, 1.0)  # the z of which p is the upper tail
        z = -normal.icdf(log_p.exp().clamp(1e-12, 1 - 1e-12))
        return Explanation(self.options.members, z, -2 * log_p if self.options.combine == "fisher" else None)

    @classmethod
    def versions(cls, options: EnsembleOptions) -> dict[str, str]:
        """Return what the members' scores depend on."""
        return {k: v for name, its in options.named() for k, v in detector_versions(name, **its).items()}

    def _log_p(self, images: Tensor) -> Tensor:
        """Return log p of each member, (N, members), float64."""
        columns = []
        for number, member in enumerate(self.from_state(self._members)):
            known = self.state[f"{number}/scores"]
            scores = member.score(images).to(known)
            above = len(known) - torch.searchsorted(known, scores)
            tail = known[-max(1, round(TAIL_SHARE * len(known))) :]
            scale = (tail.mean() - known[-len(tail) - 1]).clamp_min(1e-12)
            beyond = (scores - known[-1]).clamp_min(0) / scale
            columns.append(((1 + above) / (1 + len(known))).double().log() - beyond.log1p())
        return torch.stack(columns, 1)

    def _members(self) -> list[Detector[Any]]:  # Any: the members' options
        """Return the fitted members of the state."""
        members = self._create()
        for number, member in enumerate(members):
            prefix = f"{number}/state/"
            state = {k.removeprefix(prefix): v for k, v in self.state.items() if k.startswith(prefix)}
            member.restore(state, self.image_shape)
        return members

    def _create(self) -> list[Detector[Any]]:  # Any: as above
        """Return the members, not yet fitted.

        Raises:
            OptionError: a text that names no detector, or the ensemble itself.
        """
        return [
            create_detector(name, self.model, device=self.device, batch_size=self.batch_size, **options)
            for name, options in self.options.named()
        ]
