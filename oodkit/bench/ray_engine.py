"""The cells of a run as tasks of a Ray cluster: `--engine ray`.

A model is trained by one task, a detector is fitted and scores the ID images in one, and each cell is one, which
begins when what it needs is made. Tasks write models, detectors and scores to the run folder, which must be on a disk
that all machines share under one path; rows are written by the one process that has the folder. A task whose worker
dies is tried again by Ray, on what is finished already.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from oodkit.bench.cell import OVERALL, Cell
from oodkit.bench.plan import make_plan
from oodkit.bench.sets import SeededSets
from oodkit.bench.spec import BenchSpec
from oodkit.bench.store import RunFolder
from oodkit.bench.trouble import Trouble
from oodkit.bench.work import DetectorWork, SeedWork
from oodkit.device import resolve_device
from oodkit.errors import OptionError

__all__ = ["RayEngine"]

RETRIES = 3  # of a task whose worker died


@dataclass(frozen=True)
class _Order:
    """What a task is told; all that it needs beside it is in the run folder."""

    spec: BenchSpec
    folder: str  # the driver's current one, which the paths of the spec start from
    device: str
    seed: int
    detector: str = ""
    label: str = ""


@dataclass(frozen=True)
class _Done:
    """What a task gives back: a cell, or why there is none, or nothing where it made files only."""

    made: Cell | Trouble | None
    said: tuple[str, ...]


class RayEngine:
    """A connection to a Ray cluster, begun here where no address is given; `close` ends it.

    Raises:
        OptionError: Ray is not installed, or there is no cluster at the address.
    """

    def __init__(self, spec: BenchSpec) -> None:
        try:
            import ray
        except ImportError:
            raise OptionError("--engine ray needs Ray: pip install 'oodkit[ray]'.") from None
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no report to Ray's makers unless the user wants it
        self._ray: Any = ray  # Any: Ray is installed or not, and in part without types
        self._spec = spec
        try:
            self._ray.init(
                address=spec.engine_address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
            )
        except (ConnectionError, ValueError) as error:
            raise OptionError(f"there is no Ray cluster at {spec.engine_address} ({error}).") from error
        cuda = spec.device.startswith("cuda") or (
            spec.device == "auto" and self._ray.cluster_resources().get("GPU", 0) > 0
        )
        # Not resolved: the machine that the command runs on need not have a GPU.
        self.device = torch.device("cuda" if cuda else "cpu")

    def close(self) -> None:
        """Leave the cluster; one that was begun here ends."""
        self._ray.shutdown()

    def run(
        self,
        cells: list[tuple[DetectorWork, str]],
        record: Callable[[DetectorWork, str, Cell | Trouble], None],
        say: Callable[[str], None],
    ) -> None:
        """Make the cells of detectors and OOD sets that are not finished, and `record` each as it is."""
        ready: dict[str, Any] = {}  # Any: Ray's references; model and detector tasks by their hash
        waiting: dict[Any, tuple[DetectorWork, str]] = {}
        by_work: dict[str, list[Any]] = {}
        helpers = set()
        for work, label in cells:
            if work.key not in ready:
                trained = []
                if work.planned.needs_model and work.shared.given is None:
                    key = work.shared.key
                    if key not in ready:
                        ready[key] = self._task(_train, self._order(work, ""))
                    trained.append(ready[key])
                ready[work.key] = self._task(_fit, self._order(work, ""), *trained)
                helpers |= {ready[work.key], *trained}
            needs = [ready[work.key], *(by_work.get(work.key, []) if label == OVERALL else [])]
            made = self._task(_cell, self._order(work, label), *needs)
            by_work.setdefault(work.key, []).append(made)
            waiting[made] = work, label
        left = [*helpers, *waiting]
        while left:
            (finished,), left = self._ray.wait(left, num_returns=1)
            try:
                done = self._ray.get(finished)
            except self._ray.exceptions.RayError as error:  # the workers died again and again, or could not be had
                done = _Done(Trouble.of(error), ())
            for text in done.said:
                say(text)
            if finished in waiting:
                assert done.made is not None  # a cell's task gives a cell or the reason
                record(*waiting[finished], done.made)

    def _order(self, work: DetectorWork, label: str) -> _Order:
        return _Order(self._spec, os.getcwd(), self.device.type, work.seed, work.planned.name, label)

    def _task(self, function: Callable[..., _Done], *arguments: Any) -> Any:  # Any: Ray has no types for its tasks
        gpus = 1 if self.device.type == "cuda" else 0
        return self._ray.remote(function).options(num_gpus=gpus, max_retries=RETRIES).remote(*arguments)


# --- what runs in the workers -----------------------------------------------------------------------------------------


def _train(order: _Order) -> _Done:
    said: list[str] = []
    return _Done(_trouble(lambda: _seed_work(order, said.append).model()), tuple(said))


def _fit(order: _Order, *needs: _Done) -> _Done:
    said: list[str] = []

    def fit() -> None:
        work = _work(order)
        work.shared.say = said.append
        work.prepare()

    return _Done(_failed(needs) or _trouble(fit), tuple(said))


def _cell(order: _Order, *needs: _Done) -> _Done:
    if trouble := _failed(needs[:1]):  # of an overall mix, each part that failed says so by itself
        return _Done(trouble, ())
    made: list[Cell] = []

    def make() -> None:
        work = _work(order)
        made.append(work.make_cell(work.cell_key(order.label), order.label))

    trouble = _trouble(make)
    return _Done(trouble or made[0], ())


def _failed(needs: tuple[_Done, ...]) -> Trouble | None:
    return next((one.made for one in needs if isinstance(one.made, Trouble)), None)


def _trouble(do: Callable[[], object]) -> Trouble | None:
    try:
        do()
    except Exception as error:  # a plugin may raise anything; the driver notes it as a serial run would
        return Trouble.of(error)
    return None


_kept: dict[str, DetectorWork] = {}  # the last one of this worker: its images, model and fitted detector


def _work(order: _Order) -> DetectorWork:
    key = repr((order.spec, order.folder, order.device, order.seed, order.detector))
    if key not in _kept:
        _kept.clear()
        shared = _seed_work(order, lambda text: None)
        planned = next(planned for planned in shared.plan.detectors if planned.name == order.detector)
        _kept[key] = DetectorWork(planned, shared)
    return _kept[key]


def _seed_work(order: _Order, say: Callable[[str], None]) -> SeedWork:
    os.chdir(order.folder)
    plan, device = make_plan(order.spec), resolve_device(order.device)
    model = plan.trained_model(device)
    sets = SeededSets(plan, model)[order.seed]
    return SeedWork(plan, RunFolder(plan.run_folder), device, order.seed, sets, model, say)
