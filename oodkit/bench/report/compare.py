"""What a report sets side by side: figures of the paper, brightnesses, values of an option."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from oodkit.bench.cell import UNSTEADY
from oodkit.bench.report.runs import Runs, Section, Series

__all__ = [
    "METRICS",
    "SPREAD",
    "Gap",
    "OptionGroup",
    "Swept",
    "differences",
    "gaps",
    "option_groups",
    "signed",
    "swept",
]

METRICS = {  # of a report, in its order
    "auroc": "AUROC",
    "auprc": "AUPRC, OOD positive",
    "auprc_id": "AUPRC, ID positive (Table 4 of the paper)",
    "fpr95": "FPR95, ID positive",
    "fpr80_ood": "FPR80, OOD positive (Table 5 of the paper)",
}
SPREAD = (
    "Spread over batch sizes: a few ID test images are scored once more, each alone; the greatest change of a score "
    f"over all seeds, in standard deviations of the ID scores. Above {UNSTEADY:g} it is more than rounding in float32: "
    "the score depends on the batch that an image comes in."
)
TOLERANCE = 0.02  # a larger difference from the paper is a gap


def signed(difference: float) -> str:
    """Return a difference with its sign, and 0 without one."""
    text = f"{difference:+.3f}"
    return text[1:] if text[1:] == "0.000" else text


@dataclass(frozen=True)
class Gap:
    """An AUROC of ours beside the paper's."""

    section: str
    series: str
    ood: str
    ours: float
    paper: float
    table: int


def differences(runs: Runs) -> list[Gap]:
    """Return every AUROC that the paper has too."""
    found = []
    for section in runs.sections:
        for one in section.series:
            for ood in one.cells:
                figure, paper = one.figure(ood, "auroc"), one.paper(ood, "auroc")
                if figure is not None and paper is not None:
                    found.append(Gap(section.title, one.label, ood, figure.mean, paper.value, paper.table))
    return found


def gaps(runs: Runs) -> list[Gap]:
    """Return the AUROCs that differ from the paper's by more than 0.02, the largest difference first."""
    large = [gap for gap in differences(runs) if round(abs(gap.ours - gap.paper), 3) > TOLERANCE]
    return sorted(large, key=lambda gap: -abs(gap.ours - gap.paper))


@dataclass(frozen=True)
class Swept:
    """A set at several brightnesses."""

    @dataclass(frozen=True)
    class Line:
        """One detector's AUROC at each; mean and deviation are over the brightnesses."""

        label: str
        values: list[float | None]
        paper: list[float | None]
        mean: float
        deviation: float
        paper_mean: float | None
        paper_deviation: float | None

    base: str
    factors: list[str]
    lines: list[Line]


def swept(section: Section) -> list[Swept]:
    """Return the brightness sweeps of a section."""
    made = []
    for base, sets in section.sweeps.items():
        lines = [_line(one, sets) for one in section.series if any(ood != base and ood in one.cells for ood in sets)]
        factors = ["1" if ood == base else ood.removeprefix(f"{base}*") for ood in sets]
        made.append(Swept(base, factors, lines))
    return made


def _line(one: Series, sets: Sequence[str]) -> Swept.Line:
    figures = [one.figure(ood, "auroc") for ood in sets]
    values = [None if figure is None else figure.mean for figure in figures]
    printed = [one.paper(ood, "auroc") for ood in sets]
    paper = [None if figure is None else figure.value for figure in printed]
    ours, theirs = [v for v in values if v is not None], [p for p in paper if p is not None]
    whole = len(ours) == len(theirs) == len(sets)  # else the two means would be of other brightnesses
    return Swept.Line(
        one.label,
        values,
        paper,
        fmean(ours),
        pstdev(ours),
        fmean(theirs) if whole else None,
        pstdev(theirs) if whole else None,
    )


@dataclass(frozen=True)
class OptionGroup:
    """A detector's AUROCs by the value of one numeric option: for each OOD set, the seeds' values by option."""

    detector: str
    option: str
    by_set: dict[str, list[tuple[str, list[float]]]]


def option_groups(section: Section) -> list[OptionGroup]:
    """Return the detectors of a section that were run at several values of one numeric option, all else equal."""
    alike: dict[tuple[str, str, str], list[Series]] = {}
    for one in section.series:
        for option in one.options:
            rest = {name: value for name, value in one.options.items() if name != option}
            alike.setdefault((one.detector, option, str(rest)), []).append(one)
    groups = []
    for (detector, option, _), found in alike.items():
        known = [one for one in found if isinstance(one.options[option], int | float | None)]
        known.sort(key=lambda one: float(one.options[option] or 0))
        by_set = {
            ood: [(_name(one.options[option]), [c.auroc for c in one.cells[ood]]) for one in known if ood in one.cells]
            for ood in section.sets
        }
        by_set = {ood: values for ood, values in by_set.items() if len(values) > 1}
        if by_set:
            groups.append(OptionGroup(detector, option, by_set))
    return groups


def _name(value: float | None) -> str:
    return "default" if value is None else f"{value:g}"
