"""`Figure`: a mean over seeds with its standard deviation, as tables and reports print it."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from statistics import fmean, stdev

from oodkit.bench.cell import Cell

__all__ = ["Figure", "over_sets", "speed_text"]

LOWER_IS_BETTER = {"fpr95", "fpr80", "fpr95_ood", "fpr80_ood"}


@dataclass(frozen=True)
class Figure:
    """A mean over seeds, and its standard deviation where there are several."""

    mean: float
    deviation: float | None
    partial: str = ""  # "2 of 3": of a figure over OOD sets that some are missing from, how many it is over

    @classmethod
    def of(cls, values: Iterable[float]) -> "Figure":
        """Return the figure of the values, one per seed."""
        values = list(values)
        return cls(fmean(values), stdev(values) if len(values) > 1 else None)

    def __str__(self) -> str:
        deviation = "" if self.deviation is None else f"±{self.deviation:.3f}"
        return f"{self.mean:.3f}{deviation}" + (f" ({self.partial})" if self.partial else "")


def over_sets(cells: Iterable[Cell], metric: str, sets: int) -> dict[str, Figure]:
    """Return "mean" and "worst" of a metric over OOD sets, found seed by seed; empty where there is no cell.

    Args:
        cells: of one detector, a cell for each OOD set and seed.
        metric: a field of `Cell`.
        sets: how many OOD sets there should be; a figure over fewer says so.
    """
    by_seed: dict[int, list[float]] = {}
    for cell in cells:
        by_seed.setdefault(cell.seed, []).append(getattr(cell, metric))
    if not by_seed:
        return {}
    fewest = min(map(len, by_seed.values()))
    partial = f"{fewest} of {sets}" if fewest < sets else ""
    worst = max if metric in LOWER_IS_BETTER else min
    joined: dict[str, Callable[[list[float]], float]] = {"mean": fmean, "worst": worst}
    return {name: replace(Figure.of(map(join, by_seed.values())), partial=partial) for name, join in joined.items()}


def speed_text(images_per_second: float) -> str:
    """Return a speed with two digits that mean something, and never 0."""
    decimals = 0 if images_per_second >= 10 else max(1, 1 - math.floor(math.log10(images_per_second)))
    return f"{images_per_second:,.{decimals}f}"
