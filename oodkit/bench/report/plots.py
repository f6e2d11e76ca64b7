"""Plots as inline SVG, whose colours come from the page's style sheet: one picture for light and dark.

Each returns a text; what it says of names is escaped.
"""

import math
from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

__all__ = ["boxes", "histogram", "roc", "runtime"]

Array = NDArray[np.float64]

WIDTH, HEIGHT = 240, 170
LEFT, BOTTOM, TOP, RIGHT = 46, 24, 18, 8
BINS = 36
TAILS = (0.5, 99.5)  # percentiles of the pooled scores between which a histogram is drawn; the rest is at its ends
LONG_TAIL = 1000  # between those percentiles, from which on the axis is logarithmic
CURVE_POINTS = 120  # at most
COLOURS = 8  # of the style sheet: .c0 to .c7


def roc(title: str, curves: Sequence[tuple[int, Array, Array]]) -> str:
    """Return ROC curves: for each its colour, and the scores of ID (N,) and of OOD (M,) images.

    Across: the share of ID images that are called OOD; up: the share of OOD images that are found.
    """
    frame = _Frame(title, (0, 1), (0, 1), x_ticks=(0, 0.5, 1), y_ticks=(0, 0.5, 1))
    frame.add(f'<path class="grid" d="M{frame.x(0):.1f} {frame.y(0):.1f}L{frame.x(1):.1f} {frame.y(1):.1f}"/>')
    for colour, known, other in curves:
        thresholds = np.unique(np.concatenate([known, other]))[::-1]
        if len(thresholds) > CURVE_POINTS:
            thresholds = thresholds[np.linspace(0, len(thresholds) - 1, CURVE_POINTS).astype(int)]
        called = 1 - np.searchsorted(np.sort(known), thresholds, side="left") / len(known)
        found = 1 - np.searchsorted(np.sort(other), thresholds, side="left") / len(other)
        points = [(0.0, 0.0), *zip(called.tolist(), found.tolist(), strict=True)]
        path = "L".join(f"{frame.x(x):.1f} {frame.y(y):.1f}" for x, y in points)
        frame.add(f'<path class="line c{colour % COLOURS}" d="M{path}"/>')
    return frame.svg("false alarms", "found")


def histogram(title: str, known: Array, other: Array) -> str:
    """Return histograms of the scores of ID images (N,) and OOD images (M,), each of area 1, over one another."""
    label = "score"
    pooled = np.concatenate([known, other])
    finite = pooled[np.isfinite(pooled)]
    low, high = np.percentile(finite, TAILS).tolist() if len(finite) else (0.0, 1.0)
    if low > 0 and high > LONG_TAIL * low:
        with np.errstate(divide="ignore", invalid="ignore"):  # what is 0 or less lies at the left end
            known, other = (
                np.nan_to_num(np.log10(v), nan=-np.inf, neginf=-np.inf, posinf=np.inf) for v in (known, other)
            )
        label, low, high = "log10 of the score", math.log10(low), math.log10(high)
    if high <= low:
        high = low + max(1.0, abs(low))
    edges = np.linspace(low, high, BINS + 1)
    shares = []
    for values in (known, other):
        clipped = np.clip(np.nan_to_num(values, nan=high, posinf=high, neginf=low), low, high)
        shares.append(np.histogram(clipped, edges)[0] / len(values))
    frame = _Frame(title, (low, high), (0, max(share.max() for share in shares)), x_ticks=(low, high), y_ticks=())
    for share, name in zip(shares, ("id", "ood"), strict=True):
        floor = f"{frame.y(0):.1f}"
        bars = "".join(
            f"M{frame.x(left):.1f} {floor}V{frame.y(top):.1f}H{frame.x(right):.1f}V{floor}Z"
            for left, right, top in zip(edges[:-1], edges[1:], share, strict=True)
            if top
        )
        frame.add(f'<path class="bars {name}" d="{bars}"/>')
    return frame.svg(label, "")


def boxes(title: str, groups: Sequence[tuple[str, Sequence[float]]]) -> str:
    """Return a box plot: the quartiles of each group of AUROCs, its extremes, and a dot for each value."""
    values = [value for _, group in groups for value in group]
    low = min(0.95, math.floor(min(values) * 20) / 20)
    frame = _Frame(title, (0, len(groups)), (low, 1), x_ticks=(), y_ticks=(low, (1 + low) / 2, 1))
    for i, (name, group) in enumerate(groups):
        x = frame.x(i + 0.5)
        smallest, lower, middle, upper, largest = (frame.y(v) for v in np.percentile(group, (0, 25, 50, 75, 100)))
        frame.add(
            f'<path class="box" d="M{x:.1f} {smallest:.1f}V{largest:.1f}M{x - 9:.1f} {lower:.1f}H{x + 9:.1f}'
            f'V{upper:.1f}H{x - 9:.1f}ZM{x - 9:.1f} {middle:.1f}H{x + 9:.1f}"/>'
        )
        frame.add("".join(f'<circle class="dot" cx="{x:.1f}" cy="{frame.y(v):.1f}" r="1.6"/>' for v in group))
        frame.add(f'<text x="{x:.1f}" y="{HEIGHT - 12}" text-anchor="middle">{escape(name)}</text>')
    return frame.svg("", "AUROC")


def runtime(title: str, points: Sequence[tuple[int, str, float, float]]) -> str:
    """Return detectors by speed and AUROC: for each its colour, its name, images per second and AUROC."""
    logs = [math.log10(speed) for _, _, speed, _ in points]
    low = math.floor(min(logs))
    high = max(math.ceil(max(logs)), low + 1)
    bottom = min(0.5, math.floor(min(y for *_, y in points) * 10) / 10)
    frame = _Frame(title, (low, high), (bottom, 1), x_ticks=(), y_ticks=(bottom, (1 + bottom) / 2, 1), width=2 * WIDTH)
    for power in range(low, high + 1):
        anchor = "end" if power == high else "middle"
        frame.add(f'<text x="{frame.x(power):.1f}" y="{HEIGHT - 12}" text-anchor="{anchor}">{10.0**power:g}</text>')
    for (colour, name, speed, y), x in zip(points, logs, strict=True):
        frame.add(
            f'<circle class="fill c{colour % COLOURS}" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="4.5">'
            f"<title>{escape(name)}: {speed:.3g} images/s, {y:.3f}</title></circle>"
        )
    return frame.svg("images per second", "mean AUROC")


class _Frame:
    """Axes, and the way from values to pixels."""

    def __init__(
        self,
        title: str,
        x_range: tuple[float, float],
        y_range: tuple[float, float],
        *,
        x_ticks: Sequence[float],
        y_ticks: Sequence[float],
        width: int = WIDTH,
    ) -> None:
        self.title, self.width = title, width
        self._x, self._y = x_range, y_range
        self._parts: list[str] = []
        x0, x1, y0, y1 = LEFT, width - RIGHT, HEIGHT - BOTTOM, TOP
        self.add(f'<path class="axis" d="M{x0} {y1}V{y0}H{x1}"/>')
        for tick in x_ticks:
            anchor = "start" if tick == x_range[0] else "end" if tick == x_range[1] else "middle"
            self.add(f'<text x="{self.x(tick):.1f}" y="{HEIGHT - 12}" text-anchor="{anchor}">{tick:.3g}</text>')
        for tick in y_ticks:
            self.add(f'<text x="{LEFT - 4}" y="{self.y(tick) + 3:.1f}" text-anchor="end">{tick:.3g}</text>')

    def add(self, part: str) -> None:
        self._parts.append(part)

    def x(self, value: float) -> float:
        low, high = self._x
        return LEFT + (value - low) / (high - low) * (self.width - RIGHT - LEFT)

    def y(self, value: float) -> float:
        low, high = self._y
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - BOTTOM - TOP)

    def svg(self, x_label: str, y_label: str) -> str:
        middle = (LEFT + self.width - RIGHT) / 2
        labels = (
            f'<text class="title" x="{LEFT}" y="11">{escape(self.title)}</text>'
            f'<text x="{middle}" y="{HEIGHT - 2}" text-anchor="middle">{escape(x_label)}</text>'
            f'<text transform="translate(9 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>'
        )
        about = f'role="img" aria-label="{escape(self.title, quote=True)}"'
        size = f'viewBox="0 0 {self.width} {HEIGHT}" width="{self.width}" height="{HEIGHT}"'
        return f"<svg {size} {about}>{''.join(self._parts)}{labels}</svg>"
