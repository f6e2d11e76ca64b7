"""`run_bench`: trains, fits, scores and measures what is not yet in the run folder."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from oodkit.bench.cell import OVERALL, Cell
from oodkit.bench.plan import Plan, make_plan
from oodkit.bench.sets import Sets, load_sets
from oodkit.bench.spec import BenchSpec
from oodkit.bench.store import RunFolder
from oodkit.bench.work import DetectorWork, SeedWork
from oodkit.device import resolve_device
from oodkit.errors import OodkitError, OptionError, PluginError, RunFolderError
from oodkit.images import check_labels
from oodkit.model import GenerativeModel
from oodkit.options import ClassifierOptions

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
    left_out: dict[str, str] = field(default_factory=dict)  # of "all": a detector that cannot use the model, and why
    missing: dict[str, str] = field(default_factory=dict)  # OOD sets that are not on this machine, and why
    reused: int = 0  # cells that the run folder held already

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
    device = resolve_device(spec.device)
    model = plan.trained_model(device)
    sets = load_sets(plan, model)
    _check_labels(plan, sets)
    first = next(iter(sets.values()))
    result = BenchResult(plan, list(first.ood), missing=first.missing)
    with RunFolder(plan.run_folder, wait=spec.wait) as folder:
        folder.note_missing(result.missing, result.ood)
        for text in _remarks(plan, model, sets):
            say(text)
        for seed in spec.seeds:
            shared = SeedWork(plan, folder, device, seed, sets[seed], model, say)
            for planned in plan.detectors:
                _run_detector(DetectorWork(planned, shared), result)
    return result


def _check_labels(plan: Plan, sets: dict[int, Sets]) -> None:
    """Refuse training images that the run's classifier, if it is to train one, cannot be trained on.

    Raises:
        ImageError: no labels, or labels outside of its classes.
    """
    options = plan.model_options
    trains = plan.model_file is None and any(planned.needs_model for planned in plan.detectors)
    if trains and isinstance(options, ClassifierOptions):
        for one in sets.values():
            check_labels(one.train, plan.model.spec.name, options.classes)


def _run_detector(run: DetectorWork, result: BenchResult) -> None:
    labels = [*run.sets.ood, *([OVERALL] if len(run.sets.ood) > 1 else [])]
    for label in labels:
        key = run.cell_key(label)
        cell = run.folder.cell(key)
        if cell is not None:
            result.reused += 1
        else:
            try:
                cell = run.make_cell(key, label)
            except RunFolderError:
                raise  # no further cell could be kept
            except (PluginError, OptionError) as error:
                if "all" not in result.plan.spec.detectors:
                    _note_failure(result, error, (run.planned.name, label, run.seed))
                    continue
                result.left_out[run.planned.name] = str(error)  # nobody asked for it by name
                return
            except Exception as error:  # a plugin may raise anything; the other cells go on
                _note_failure(result, error, (run.planned.name, label, run.seed))
                continue
            run.folder.append(cell)
        result.cells.append(cell)


def _note_failure(result: BenchResult, error: Exception, cell: tuple[str, str, int]) -> None:
    known = isinstance(error, OodkitError)
    reason = str(error) if known else f"{type(error).__name__}: {error}"
    last = result.failures[-1] if result.failures else None
    if last is None or last.reason != reason:
        last = Failure(reason, "" if known else "".join(traceback.format_exception(error)))
        result.failures.append(last)
    last.cells.append(cell)


def _remarks(plan: Plan, model: GenerativeModel | None, sets: dict[int, Sets]) -> list[str]:
    """Return what a reader of the figures should know about the images."""
    remarks = []
    trained_on = model.training_record.get("images") if model is not None else None
    first = next(iter(sets.values()))
    if trained_on and trained_on != first.train.name:
        remarks.append(f"{plan.model_file} was trained on {trained_on}, not on {first.train.name}.")
    remarks += [f"{name} is left out: no data." for name in first.missing]
    remarks += [f"{first.train.name}: {step}" for step in first.train.steps if step.startswith("no splits")]
    for one in (first.train, first.test, *first.ood.values()):
        if one.skipped:
            remarks.append(f"{one.name}: {len(one.skipped)} files left out; the first: {one.skipped[0]}")
    return remarks
