"""`Cell`: one finished row of a run: a detector on an ID set and an OOD set, with one seed."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NotRequired, TypeAlias

from pydantic import ConfigDict, Field, JsonValue
from torch import Tensor
from typing_extensions import TypedDict  # comes with pydantic, which takes typing's own from Python 3.12 on

from oodkit.bench.metrics import auprc, auroc, fpr_at_tpr

__all__ = ["METRICS", "OVERALL", "UNSTEADY", "Cell", "CellSets", "DescribedSet", "measure", "not_finite", "unsteady"]

OVERALL = "overall"  # the OOD "set" that mixes all of a run's OOD sets
METRICS = ("auroc", "auprc", "fpr95", "fpr80")  # those that tables show
SENTENCES = 20  # of one kind, that are printed
UNSTEADY = 0.01  # a larger spread over batch sizes is more than rounding in float32

Count: TypeAlias = Annotated[int, Field(ge=0)]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1 + 1e-9)]  # a sum of many may be rounded to above 1
Hash: TypeAlias = Annotated[str, Field(pattern=r"^\w{0,64}$")]  # names a file; "" where there is none
STRICT = ConfigDict(strict=True, allow_inf_nan=False, protected_namespaces=())


class DescribedSet(TypedDict):
    """What a row says of an image set."""

    count: Count
    shape: NotRequired[list[int]]
    source: str
    steps: list[str]
    skipped: Count
    first_skipped: NotRequired[list[Any]]  # Any: texts; names of files may hold what is no text


class CellSets(TypedDict):
    """The image sets of a cell; `ood` of a mix: their labels."""

    train: DescribedSet
    id: DescribedSet
    ood: DescribedSet | list[str]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A row of results.jsonl. Its types are what a row is checked by when it is read."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    key: str  # hash of detector, model, image sets, options and seeds
    detector: str
    model: str
    id: str
    ood: str
    seed: int
    n_id: Count
    n_ood: Count
    auroc: Share
    auprc: Share  # OOD is the positive class
    auprc_id: Share  # ID is the positive class
    fpr95: Share  # share of OOD taken for ID where 95 % of ID are kept
    fpr80: Share
    fpr95_ood: Share  # share of ID taken for OOD where 95 % of OOD are found
    fpr80_ood: Share
    images_per_second: Annotated[float, Field(gt=0)] | None  # of scoring the OOD set; None for the mix
    non_finite_id: Count  # scores that are infinite
    non_finite_ood: Count
    device: str
    options: dict[str, JsonValue]  # the detector's
    model_options: dict[str, JsonValue]
    hashes: dict[str, Hash]  # of the files in the run folder, and of the image sets
    sets: CellSets  # source, steps and skipped files of train, id and ood
    versions: dict[str, str]
    date: str  # UTC, ISO 8601
    model_file: str = ""  # of a model that was trained before the run
    batch_spread: Annotated[float, Field(ge=0)] | None = None  # see `Scores`; of the ID scores


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
    return _bounded(
        f"{cell.detector}, seed {cell.seed}: infinite scores of {cell.non_finite_id} of {cell.n_id} images of "
        f"{cell.id} and {cell.non_finite_ood} of {cell.n_ood} of {cell.ood}; +inf (NaN too) is the most OOD."
        for cell in cells
        if cell.ood != OVERALL and (cell.non_finite_id or cell.non_finite_ood)
    )


def unsteady(cells: Iterable[Cell]) -> list[str]:
    """Return a sentence for each detector and seed whose scores depend on the batch that an image comes in."""
    return _bounded(
        f"{cell.detector}, seed {cell.seed}: scored alone, an image of {cell.id} moves by {cell.batch_spread:.2g} "
        f"deviations of the ID scores. A score must not depend on its neighbours: see `oodkit check {cell.detector}`."
        for cell in cells
        if cell.batch_spread is not None and cell.batch_spread > UNSTEADY
    )


def _bounded(sentences: Iterable[str]) -> list[str]:
    """Return each sentence once, the first few and how many more: thousands of cells may say the same."""
    once = list(dict.fromkeys(sentences))
    more = len(once) - SENTENCES
    return once if more <= 1 else [*once[:SENTENCES], f"… and {more:,} more like these; the rows have them all."]
