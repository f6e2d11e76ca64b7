"""`Figure`: a mean over seeds with its standard deviation, as tables and reports print it."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import fmean, stdev

__all__ = ["LOWER_IS_BETTER", "Figure", "speed_text", "worst_of"]

LOWER_IS_BETTER = {"fpr95", "fpr80", "fpr95_ood", "fpr80_ood"}


@dataclass(frozen=True)
class Figure:
    """A mean over seeds, and its standard deviation where there are several."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Iterable[float]) -> "Figure":
        """Return the figure of the values, one per seed."""
        values = list(values)
        return cls(fmean(values), stdev(values) if len(values) > 1 else None)

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + ("" if self.deviation is None else f"±{self.deviation:.3f}")


def worst_of(metric: str) -> Callable[[list[float]], float]:
    """Return what picks the worst of a metric's values."""
    return max if metric in LOWER_IS_BETTER else min


def speed_text(images_per_second: float) -> str:
    """Return a speed with two digits that mean something, and never 0."""
    decimals = 0 if images_per_second >= 10 else max(1, 1 - math.floor(math.log10(images_per_second)))
    return f"{images_per_second:,.{decimals}f}"
