"""`run_bench`: trains, fits, scores and measures what is not yet in the run folder."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from oodkit.bench.cell import OVERALL, Cell
from oodkit.bench.plan import Plan, make_plan
from oodkit.bench.sets import SeededSets, Sets
from oodkit.bench.spec import BenchSpec
from oodkit.bench.store import RunFolder
from oodkit.bench.trouble import Trouble
from oodkit.bench.work import DetectorWork, SeedWork
from oodkit.device import resolve_device
from oodkit.errors import OodkitError, RunFolderError
from oodkit.images import check_labels
from oodkit.model import GenerativeModel
from oodkit.options import ClassifierOptions

if TYPE_CHECKING:
    from oodkit.bench.ray_engine import RayEngine

__all__ = ["BenchResult", "Failure", "run_bench"]

Say = Callable[[str], None]


@dataclass
class Failure:
    """Cells that could not be made, for one reason."""

    reason: str
    trace: str  # empty where the user can mend the reason
    cells: list[tuple[str, str, int]] = field(default_factory=list)  # detector, OOD set, seed


@dataclass
class BenchResult:
    """What a run gave: the cells that were found and those that were made, in the order of the plan."""

    plan: Plan
    ood: list[str]  # labels of the OOD sets, without the overall mix
    cells: list[Cell] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)  # what nobody named and cannot be used here, and why
    missing: dict[str, str] = field(default_factory=dict)  # OOD sets that are not on this machine, and why
    reused: int = 0  # cells that the run folder held already

    def is_left_out(self, work: DetectorWork) -> bool:
        """Return whether nobody named the detector and its first cell has shown that it cannot be used here."""
        return work.planned.name in self.left_out

    def auroc(self, detector: str, ood: str) -> float:
        """Return the mean AUROC over the seeds.

        Raises:
            OodkitError: there is no such cell.
        """
        found = [cell.auroc for cell in self.cells if (cell.detector, cell.ood) == (detector, ood)]
        if not found:
            raise OodkitError(f"the run has no finished cell of {detector} on {ood}.")
        return sum(found) / len(found)


def run_bench(spec: BenchSpec, say: Say = lambda text: None) -> BenchResult:
    """Return the cells of `spec`, made now or found in the run folder.

    Everything that the user can get wrong is found before training starts. A cell that fails does not stop the
    others. Ctrl-C, or a kill, loses no finished cell: the same call goes on where it stopped.

    Args:
        spec: what to run.
        say: called with a sentence at each step.

    Raises:
        OodkitError: a name, an option, a device, a data set or the run folder is not as it must be.
    """
    plan = make_plan(spec)
    if spec.engine == "serial":
        return _run(plan, resolve_device(spec.device), None, say)
    from oodkit.bench.ray_engine import RayEngine

    engine = RayEngine(spec)
    try:
        return _run(plan, engine.device, engine, say)
    finally:
        engine.close()


def _run(plan: Plan, device: torch.device, engine: "RayEngine | None", say: Say) -> BenchResult:
    model = plan.trained_model(device if engine is None else torch.device("cpu"))
    sets = SeededSets(plan, model)
    _check_labels(plan, sets)
    result, remarks = _begin(plan, model, sets[plan.spec.seeds[0]])
    with RunFolder(plan.run_folder, wait=plan.spec.wait) as folder:
        folder.note_missing(result.missing, result.ood)
        for text in remarks:
            say(text)
        if engine is None:
            for seed in plan.spec.seeds:
                _run_seed(SeedWork(plan, folder, device, seed, sets[seed], model, say), result)
        else:
            shared = (SeedWork(plan, folder, device, seed, sets[seed], model, say) for seed in plan.spec.seeds)
            works = (DetectorWork(planned, one) for one in shared for planned in plan.detectors)
            _run_on_ray(engine, works, folder, result, say)
    return result


def _begin(plan: Plan, model: GenerativeModel | None, first: Sets) -> tuple[BenchResult, list[str]]:
    """Return an empty result, and the remarks on the images of the first seed."""
    return BenchResult(plan, list(first.ood), missing=first.missing), _remarks(plan, model, first)


def _check_labels(plan: Plan, sets: SeededSets) -> None:
    """Refuse training images that the run's classifier, if it is to train one, cannot be trained on.

    Raises:
        ImageError: no labels, or labels outside of its classes.
    """
    options = plan.model_options
    trains = plan.model_file is None and any(planned.needs_model for planned in plan.detectors)
    if trains and isinstance(options, ClassifierOptions):
        for seed in plan.spec.seeds[:1] if sets.trains_on_one else plan.spec.seeds:
            check_labels(sets[seed].train, plan.model.spec.name, options.classes)


def _labels(work: DetectorWork) -> list[str]:
    return [*work.sets.ood, *([OVERALL] if len(work.sets.ood) > 1 else [])]


def _run_seed(shared: SeedWork, result: BenchResult) -> None:
    with shared:
        for planned in shared.plan.detectors:
            _run_serially(DetectorWork(planned, shared), shared.folder, result)


def _run_serially(work: DetectorWork, folder: RunFolder, result: BenchResult) -> None:
    for label in _labels(work):
        if result.is_left_out(work):
            break  # it cannot use the model, whatever the set
        key = work.cell_key(label)
        cell = folder.cell(key)
        if cell is not None:
            result.reused += 1
            result.cells.append(cell)
            continue
        made: Cell | Trouble
        try:
            made = work.make_cell(key, label)
        except Exception as error:  # a plugin may raise anything; the other cells go on
            made = Trouble.of(error)
        _record(work, label, made, folder, result)


def _run_on_ray(
    engine: "RayEngine", works: Iterable[DetectorWork], folder: RunFolder, result: BenchResult, say: Say
) -> None:
    cells = [(work, label) for work in works for label in _labels(work)]
    left = []
    for work, label in cells:
        cell = folder.cell(work.cell_key(label))
        if cell is None:
            left.append((work, label))
        else:
            result.reused += 1
            result.cells.append(cell)
    engine.run(left, lambda work, label, made: _record(work, label, made, folder, result), say)
    # They stand as they finished: bring them into the order of the plan.
    order = {(work.planned.name, label, work.seed): i for i, (work, label) in enumerate(cells)}
    result.cells.sort(key=lambda cell: order[cell.detector, cell.ood, cell.seed])
    for failure in result.failures:
        failure.cells.sort(key=lambda cell: order[cell])


def _record(work: DetectorWork, label: str, made: Cell | Trouble, folder: RunFolder, result: BenchResult) -> None:
    """Keep a cell, or note why it could not be made.

    Raises:
        RunFolderError: no further cell could be kept.
    """
    if isinstance(made, Cell):
        folder.append(made)
        result.cells.append(made)
    elif made.kind == "folder":
        raise RunFolderError(made.reason)
    elif made.kind == "unsuited" and "all" in result.plan.spec.detectors:
        result.left_out[work.planned.name] = made.reason  # nobody asked for it by name
    elif made.kind in ("unsuited", "user") and not work.planned.asked:
        result.left_out[work.planned.name] = made.reason
    else:
        last = result.failures[-1] if result.failures else None
        if last is None or last.reason != made.reason:
            last = Failure(made.reason, made.trace)
            result.failures.append(last)
        last.cells.append((work.planned.name, label, work.seed))


def _remarks(plan: Plan, model: GenerativeModel | None, first: Sets) -> list[str]:
    """Return what a reader of the figures should know about the images."""
    remarks = []
    trained_on = model.training_record.get("images") if model is not None else None
    if trained_on and trained_on != first.train.name:
        remarks.append(f"{plan.model_file} was trained on {trained_on}, not on {first.train.name}.")
    remarks += [f"{name} is left out: no data." for name in first.missing]
    remarks += [f"{first.train.name}: {step}" for step in first.train.steps if step.startswith("no splits")]
    for one in (first.train, first.test, *first.ood.values()):
        if one.skipped:
            remarks.append(f"{one.name}: {len(one.skipped)} files left out; the first: {one.skipped[0]}")
    return remarks
