"""The figures of the paper, and which of them a cell is to be compared with.

Source: Choi et al. 2021, arXiv:2106.07903, Tables 1 to 11, in `paper.csv`. Its Table 4 is AUPRC with ID as the positive
class (`auprc_id`); its Table 5 is FPR80 with OOD as the positive class (`fpr80_ood`), as its authors' scores show.
"""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from oodkit.bench.cell import OVERALL, Cell

__all__ = ["PaperFigure", "Subject", "paper_figure", "paper_sets", "subject_of"]

WIDTHS = {"fashion-mnist": 32, "cifar10": 64}  # of the paper's VAEs
GLOWS = {"glow-fashion-mnist": "fashion-mnist", "glow-cifar10": "cifar10"}
FEWEST_IMAGES = 1000  # that the paper's tables fit F to; its Figure 5, with fewer, has no figures to compare with
STRENGTHS = {"svd": 28.0, "dct": 28.0, "gaussian-blur": 0.8, "random": 0.2}
GREY_STRENGTHS = {**STRENGTHS, "random": 0.3}


@dataclass(frozen=True)
class Subject:
    """What a line of the paper's tables is about."""

    id: str
    model: str  # "vae", "glow", or "" for a detector without a model
    detector: str
    setting: str  # "" or what it changes: "width x0.5", "strength 22", "layers all"


@dataclass(frozen=True)
class PaperFigure:
    """A figure and the table that it is printed in."""

    value: float
    table: int


def paper_figure(subject: Subject | None, ood: str, metric: str) -> PaperFigure | None:
    """Return what the paper has; of several tables, the figure of Table 2 or else the first."""
    return None if subject is None else _figures().get((subject, ood, metric))


def paper_sets(subject: Subject | None) -> list[str]:
    """Return the OOD sets of a line of the paper, without those of other brightness and without the mix."""
    sets = dict.fromkeys(ood for about, ood, _ in _figures() if about == subject)
    return [ood for ood in sets if "*" not in ood and ood != OVERALL]


def subject_of(cell: Cell) -> Subject | None:
    """Return the line that a cell is to be compared with; None where the paper has no such model or setting."""
    model, settings = cell.model, []
    if cell.model == "vae":
        width = _number(cell.model_options.get("width"))
        factor = 1.0 if width is None or cell.id not in WIDTHS else width / WIDTHS[cell.id]
        settings += [f"width x{factor:g}"] if factor != 1 else []
    elif cell.model:
        if GLOWS.get(cell.model) != cell.id:
            return None
        model = "glow"
        settings += ["layers all"] if cell.options.get("layers") == ["*"] else []
    images = _number(cell.options.get("fitting_images"))
    if cell.detector.startswith("rose-") and images is not None and images < FEWEST_IMAGES:
        return None
    strength = _number(cell.options.get("strength"))
    usual = (GREY_STRENGTHS if cell.id == "fashion-mnist" else STRENGTHS).get(cell.detector.partition("-")[2])
    if strength is not None and usual is not None and f"{strength:g}" != f"{usual:g}":
        settings.append(f"strength {strength:g}")
    return Subject(cell.id, model, cell.detector, ", ".join(settings))


def _number(option: object) -> float | None:
    """Return a numeric option; None for any other, which may be of a plugin or of a file that somebody wrote."""
    return option if isinstance(option, int | float) else None


@cache
def _figures() -> dict[tuple[Subject, str, str], PaperFigure]:
    figures: dict[tuple[Subject, str, str], PaperFigure] = {}
    with Path(__file__).with_name("paper.csv").open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: (row["table"] != "2", int(row["table"])))
    for row in rows:
        subject = Subject(row["id"], row["model"], row["detector"], row["setting"])
        figure = PaperFigure(float(row["value"]), int(row["table"]))
        figures.setdefault((subject, row["ood"], row["metric"]), figure)
    return figures
