"""Run folders as a report sees them: rows in series, whatever runs they came from.

A series is a detector on a model and an ID set, with one choice of options; its rows differ in OOD set and in seed. Of
options, models and images, only those that differ between the rows are named. No torch, but for the scores.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from oodkit.bench.cell import OVERALL, Cell
from oodkit.bench.figure import Figure, over_sets
from oodkit.bench.names import CONTROLS, brightness_of, is_plain
from oodkit.bench.report.lines import Found, Line, as_text, lines_of
from oodkit.bench.report.paper import PaperFigure, Subject, paper_figure, paper_sets, subject_of
from oodkit.bench.rows import read_cells
from oodkit.bench.spec import BASELINE
from oodkit.bench.store import Scores, read_missing, read_scores
from oodkit.errors import RunFolderError

__all__ = ["Runs", "Section", "Series", "read_runs"]


@dataclass(frozen=True)
class Series:
    """Rows that differ in OOD set and seed only; `cells` by OOD set, in the order of their seeds."""

    detector: str
    settings: str  # what differs from the detector's other series: "vae.width=16, fitting_images=100"
    options: dict[str, Any]  # see `Line`; Any: what JSON can hold
    cells: dict[str, list[Cell]]

    @property
    def label(self) -> str:
        """What tables call it."""
        return f"{self.detector}, {self.settings}" if self.settings else self.detector

    @cached_property
    def subject(self) -> Subject | None:
        """The line of the paper that it is to be compared with."""
        return subject_of(next(iter(self.cells.values()))[0])

    def figure(self, ood: str, metric: str) -> Figure | None:
        """Return the mean over the seeds; None where there is no row."""
        found = self.cells.get(ood)
        return Figure.of(getattr(cell, metric) for cell in found) if found else None

    def over(self, sets: Iterable[str], metric: str) -> dict[str, Figure]:
        """Return mean and worst over those OOD sets that it has; empty where it has fewer than two."""
        sets = list(sets)
        found = [self.cells[ood] for ood in sets if ood in self.cells]
        return over_sets(chain(*found), metric, len(sets)) if len(found) > 1 else {}

    def paper(self, ood: str, metric: str) -> PaperFigure | None:
        """Return the paper's figure; None for the overall mix, where the sets are not the paper's."""
        if ood == OVERALL and set(self.mixed) != set(paper_sets(self.subject)):
            return None
        return paper_figure(self.subject, ood, metric)

    @property
    def mixed(self) -> list[str]:
        """The sets of its overall mix."""
        found = self.cells.get(OVERALL)
        return list(found[0].sets["ood"]) if found else []

    @property
    def images_per_second(self) -> float | None:
        """The median over its rows."""
        speeds = sorted(c.images_per_second for cells in self.cells.values() for c in cells if c.images_per_second)
        return speeds[len(speeds) // 2] if speeds else None

    @property
    def batch_spread(self) -> float | None:
        """The greatest of its rows."""
        spreads = [c.batch_spread for cells in self.cells.values() for c in cells if c.batch_spread is not None]
        return max(spreads, default=None)


@dataclass(frozen=True)
class Section:
    """All series of one family of models, or of none, on one ID set; beside a family, the baseline."""

    id: str
    model: str
    series: list[Series]

    @property
    def title(self) -> str:
        """What the report calls it."""
        return f"{self.id}, {self.model or 'detectors without a model'}"

    @cached_property
    def sets(self) -> list[str]:
        """The OOD sets of its rows, without brightness, control and mix; then those that only the paper has."""
        ours = [ood for one in self.series for ood in one.cells]
        theirs = [ood for one in self.series for ood in paper_sets(one.subject)]
        plain = [ood for ood in (*ours, *theirs) if ood != OVERALL and is_plain(ood)]
        return list(dict.fromkeys(plain))

    @property
    def run_sets(self) -> list[str]:
        """Those of `sets` that any of its series has."""
        return [ood for ood in self.sets if any(ood in one.cells for one in self.series)]

    @cached_property
    def controls(self) -> list[str]:
        """The sets `resized:SET` and `recompressed:SET` of its rows."""
        return list(dict.fromkeys(o for one in self.series for o in one.cells if o.startswith(CONTROLS)))

    @cached_property
    def sweeps(self) -> dict[str, list[str]]:
        """The sets of each brightness sweep, by the set that is swept, dark to bright."""
        known = dict.fromkeys(ood for one in self.series for ood in one.cells)
        found: dict[str, dict[str, float]] = {}
        for ood in known:
            base, factor = brightness_of(ood)
            if factor is not None:
                found.setdefault(base, {base: 1.0} if base in known else {})[ood] = factor
        return {base: sorted(sets, key=sets.__getitem__) for base, sets in found.items()}


@dataclass(frozen=True)
class Runs:
    """Everything that a report is made of."""

    folders: list[Path]
    sections: list[Section]
    missing: dict[str, str]
    damaged: int  # rows that cannot be read
    cells: list[Cell] = field(repr=False)

    @property
    def show_baseline(self) -> bool:
        """Whether the baseline stands beside another detector anywhere."""
        named = [{one.detector for one in section.series} for section in self.sections]
        return any(BASELINE in names and len(names) > 1 for names in named)

    def scores(self, key: str) -> Scores | None:
        """Return raw scores by their hash; None where no folder has them."""
        return next((found for folder in self.folders if (found := read_scores(folder, key)) is not None), None)


def read_runs(folders: Iterable[str | Path]) -> Runs:
    """Return the rows of run folders, in series. Nothing is locked or changed: a run may still be going on.

    Raises:
        RunFolderError: a folder holds no results.
    """
    paths = [Path(folder) for folder in folders]
    rows: list[Found] = []
    missing: dict[str, str] = {}
    damaged = 0
    for i, path in enumerate(paths):
        file = path / "results.jsonl"
        if not file.is_file():  # a pipe: to open it would wait for ever
            raise RunFolderError(f"{path} is no run folder: there is no {file.name}; `oodkit bench` makes one.")
        try:
            found, bad = read_cells(file.read_bytes())
        except OSError as error:
            raise RunFolderError(f"cannot read {file}: {error.strerror or error}; check its permissions.") from error
        damaged += len(bad)
        missing |= read_missing(path)
        rows += [Found(i, cell) for cell in found if not _is_mix_of_made_sets(cell)]
    lines = lines_of(rows)
    if not lines:
        raise RunFolderError(f"{', '.join(map(str, paths))}: there is no finished cell to report.")
    kept = list({id(cell): cell for line in lines for cell in line.cells}.values())
    present = {cell.ood for cell in kept}
    return Runs(paths, _sections(lines), {n: why for n, why in missing.items() if n not in present}, damaged, kept)


def _is_mix_of_made_sets(cell: Cell) -> bool:
    """Return whether a mix is of one set at many brightnesses, say, which sums up nothing."""
    return cell.ood == OVERALL and not all(map(is_plain, cell.sets["ood"]))


def _sections(lines: list[Line]) -> list[Section]:
    by_section: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        cell = line.rows[0].cell
        by_section.setdefault((cell.id, cell.model), []).append(line)
    series = {key: [_series(line, found) for line in found] for key, found in by_section.items()}
    with_model = {id for id, model in series if model}
    baselines = {id: [one for one in series.get((id, ""), []) if one.detector == BASELINE] for id in with_model}
    sections = []
    for (id, model), found in series.items():
        if model:
            sections.append(Section(id, model, [*found, *_beside(found, baselines[id])]))
        elif id not in with_model or len(found) > len(baselines[id]):  # else it stands beside the models alone
            sections.append(Section(id, model, found))
    return sections


def _beside(series: list[Series], baselines: list[Series]) -> list[Series]:
    """Return the baselines with those of their sets, and that mix, that the series have."""
    sets = {ood for one in series for ood in one.cells} - {OVERALL}
    mixes = [one.mixed for one in series]
    shown = []
    for one in baselines:
        cells = {
            ood: found for ood, found in one.cells.items() if ood in sets or (ood == OVERALL and one.mixed in mixes)
        }
        if cells:
            shown.append(replace(one, cells=cells))
    return shown


def _series(line: Line, lines: list[Line]) -> Series:
    detector = line.rows[0].cell.detector
    others = [other.options for other in lines if other.rows[0].cell.detector == detector]
    by_set: dict[str, list[Cell]] = {}
    for cell in line.cells:
        by_set.setdefault(cell.ood, []).append(cell)
    for cells in by_set.values():
        cells.sort(key=lambda cell: cell.seed)
    return Series(detector, _differing(line.options, others), line.options, by_set)


def _differing(options: dict[str, Any], others: list[dict[str, Any]]) -> str:  # Any: what JSON can hold
    """Return those options that are not the same in all of `others`."""
    names = [name for name in options if len({as_text({"": o.get(name)}) for o in others}) > 1]
    return ", ".join(f"{name}={_plain(options[name])}" for name in names)


def _plain(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
