"""`Cell`: one finished row of a run: a detector on an ID set and an OOD set, with one seed."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from oodkit.bench.metrics import auprc, auroc, fpr_at_tpr

__all__ = ["METRICS", "OVERALL", "UNSTEADY", "Cell", "measure", "not_finite", "unsteady"]

OVERALL = "overall"  # the OOD "set" that mixes all of a run's OOD sets
METRICS = ("auroc", "auprc", "fpr95", "fpr80")  # those that tables show
UNSTEADY = 0.01  # a larger spread over batch sizes is more than rounding in float32


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A row of results.jsonl."""

    key: str  # hash of detector, model, image sets, options and seeds
    detector: str
    model: str
    id: str
    ood: str
    seed: int
    n_id: int
    n_ood: int
    auroc: float
    auprc: float  # OOD is the positive class
    auprc_id: float  # ID is the positive class
    fpr95: float  # share of OOD taken for ID where 95 % of ID are kept
    fpr80: float
    fpr95_ood: float  # share of ID taken for OOD where 95 % of OOD are found
    fpr80_ood: float
    images_per_second: float | None  # of scoring the OOD set; None for the mix
    non_finite_id: int  # scores that are infinite
    non_finite_ood: int
    device: str
    options: dict[str, Any]  # the detector's; Any: what JSON can hold
    model_options: dict[str, Any]
    hashes: dict[str, str]  # of the files in the run folder, and of the image sets
    sets: dict[str, Any]  # source, steps and skipped files of train, id and ood
    versions: dict[str, str]
    date: str  # UTC, ISO 8601
    model_file: str = ""  # of a model that was trained before the run
    batch_spread: float | None = None  # see `Scores`; of the ID scores


def measure(id_scores: Tensor, ood_scores: Tensor) -> dict[str, Any]:  # Any: int or float
    """Return the fields of a cell that follow from its scores, (N,) and (M,)."""
    return {
        "n_id": len(id_scores),
        "n_ood": len(ood_scores),
        "auroc": auroc(id_scores, ood_scores),
        "auprc": auprc(id_scores, ood_scores),
        "auprc_id": auprc(id_scores, ood_scores, positive="id"),
        "fpr95": fpr_at_tpr(id_scores, ood_scores, 0.95),
        "fpr80": fpr_at_tpr(id_scores, ood_scores, 0.8),
        "fpr95_ood": fpr_at_tpr(id_scores, ood_scores, 0.95, positive="ood"),
        "fpr80_ood": fpr_at_tpr(id_scores, ood_scores, 0.8, positive="ood"),
        "non_finite_id": int((~id_scores.isfinite()).sum()),
        "non_finite_ood": int((~ood_scores.isfinite()).sum()),
    }


def not_finite(cells: Iterable[Cell]) -> list[str]:
    """Return a sentence for each detector and set with scores that are infinite; NaN became so when it was scored."""
    return [
        f"{cell.detector}, seed {cell.seed}: infinite scores of {cell.non_finite_id} of {cell.n_id} images of "
        f"{cell.id} and {cell.non_finite_ood} of {cell.n_ood} of {cell.ood}; +inf (NaN too) is the most OOD."
        for cell in cells
        if cell.ood != OVERALL and (cell.non_finite_id or cell.non_finite_ood)
    ]


def unsteady(cells: Iterable[Cell]) -> list[str]:
    """Return a sentence for each detector and seed whose scores depend on the batch that an image comes in."""
    sentences = [
        f"{cell.detector}, seed {cell.seed}: scored alone, an image of {cell.id} moves by {cell.batch_spread:.2g} "
        f"deviations of the ID scores. A score must not depend on its neighbours: see `oodkit check {cell.detector}`."
        for cell in cells
        if cell.batch_spread is not None and cell.batch_spread > UNSTEADY
    ]
    return list(dict.fromkeys(sentences))
