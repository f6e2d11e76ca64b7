"""What one seed and one detector of a run need: each thing is found in the run folder, or made and kept there."""

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from platform import python_version
from typing import Any, Generic, Self, TypeVar

import torch
from torch import Tensor

from oodkit import __version__
from oodkit.bench.cell import OVERALL, Cell, DescribedSet, measure
from oodkit.bench.code import is_own, package_identity
from oodkit.bench.memory import Memory
from oodkit.bench.plan import Plan, PlannedDetector
from oodkit.bench.rows import fingerprint
from oodkit.bench.sets import Sets
from oodkit.bench.store import RunFolder, Scores
from oodkit.detector import Detector
from oodkit.device import device_name
from oodkit.errors import ArtifactError, PluginError, RunFolderError
from oodkit.images import ImageSet, draw_indices
from oodkit.model import GenerativeModel, LatentVariableModel
from oodkit.named_detectors import create_detector, load_detector, load_detector_class
from oodkit.named_models import load_model, train_model
from oodkit.options import Options
from oodkit.registry import registry

__all__ = ["DetectorWork", "SeedWork"]

SHARE_OF_MIX = 1000  # images of each OOD set in the overall mix, at most
EXAMPLES = 6  # images with the lowest scores, and with the highest, that are kept beside the scores
ALONE = 8  # ID images, at most, that are scored once more, one by one
ID = ""  # stands for the ID test images: no OOD set is called so
MOST = 1e6  # a spread over batch sizes that stands for more, and for infinite
SHOWN_SKIPPED = 20  # sentences about unreadable files that a row keeps, at most

Made = TypeVar("Made")


class _Once(Generic[Made]):
    """Makes something when it is first asked for; afterwards gives the same thing, or raises the same error.

    It does not keep what makes it, which holds it: images and model are to go at a seed's end, not when Python looks
    for circles.
    """

    def __init__(self) -> None:
        self._made: Made | None = None
        self._error: Exception | None = None

    def __call__(self, make: Callable[[], Made]) -> Made:
        if self._error is not None:
            raise self._error
        if self._made is None:
            try:
                self._made = make()
            except Exception as error:
                self._error = error
                raise
        return self._made


@dataclass
class SeedWork:
    """What the detectors of one seed share: the images, the model, and as a context what it remembers."""

    plan: Plan
    folder: RunFolder
    device: torch.device
    seed: int
    sets: Sets
    given: GenerativeModel | None  # of a model that came from a file
    say: Callable[[str], None]

    def __post_init__(self) -> None:
        self.key = self._key()
        self._model: _Once[GenerativeModel] = _Once()
        self._memory: Memory | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._memory is not None:
            self._memory.forget()

    def model(self) -> GenerativeModel:
        """Return the model, trained or read when it is first asked for."""
        return self._model(self._find_or_train) if self.given is None else self.given

    def memory(self) -> Memory:
        """Return what the detectors share of the model's answers."""
        if self._memory is None:
            self._memory = Memory(self.model())
        return self._memory

    def _key(self) -> str:
        if self.plan.model_file is not None:
            code = not is_own(self.plan.model) and self.plan.model_file.suffix != ".py"  # its hash has its code
            return fingerprint(file=self.plan.model_hash(), **({"origin": self.plan.model_identity} if code else {}))
        return fingerprint(
            oodkit=__version__,
            model=self.plan.model.spec.name,
            origin=self.plan.model_identity,
            options=_plain(self.plan.model_options),
            train=self.sets.train.hash,
            seed=self._training_seed,
            **({"labels": self.sets.train.labels_hash} if self.plan.model.spec.kind == "classifier" else {}),
        )

    @property
    def _training_seed(self) -> int:
        seed = self.plan.spec.model_seed
        return self.seed if seed is None else seed

    def _find_or_train(self) -> GenerativeModel:
        file = self.folder.model_file(self.key)
        checkpoint = file.with_suffix(".checkpoint")
        model = self.folder.read(file, lambda path: load_model(path, self.device))
        if model is not None:
            checkpoint.unlink(missing_ok=True)  # a run was killed before it could
            return model
        name, train = self.plan.model.spec.name, self.sets.train
        self.say(
            f"training {name} on {train.name}: {len(train):,} images, "
            f"{self.plan.model_options.epochs} epochs, seed {self._training_seed}"
        )
        start = time.perf_counter()
        with _DiskErrors():
            model = train_model(
                name,
                train,
                seed=self._training_seed,
                device=self.device,
                checkpoint=checkpoint,
                **self.plan.model_options.model_dump(),
            )
        self.folder.write(file, model.save)
        checkpoint.unlink(missing_ok=True)
        self.say(f"trained {name} in {time.perf_counter() - start:.0f} s")
        return model


class DetectorWork:
    """One detector with one seed: fitted, and each set scored, when a cell first needs it."""

    def __init__(self, planned: PlannedDetector, shared: SeedWork) -> None:
        self.planned, self.shared = planned, shared
        self.folder, self.sets, self.seed = shared.folder, shared.sets, shared.seed
        self.options = planned.seeded(shared.seed)
        self.key = self._key()
        self._fitted: _Once[Detector[Any]] = _Once()  # Any: options of any detector
        self._memory: Memory | None = None  # of a detector that was fitted now, and so has the model of the others
        self._scored: dict[str, _Once[Scores]] = {name: _Once() for name in (ID, *shared.sets.ood)}

    def _key(self) -> str:
        curvature = self.planned.entry.curvature
        files = self.planned.file_hashes
        return fingerprint(
            oodkit=__version__,
            detector=self.planned.name,
            origin=self.planned.identity,
            curvature=package_identity(registry().curvature(curvature.name)) if curvature is not None else "",
            options=_plain(self.options),
            model=self.shared.key if self.planned.needs_model else "",
            train=self.sets.train.hash,
            device=self.shared.device.type,
            versions=self._outside_versions(),
            **({"files": files} if files else {}),
        )

    def _outside_versions(self) -> dict[str, str]:
        try:
            return load_detector_class(self.planned.entry).versions(self.options)
        except PluginError:  # its code cannot be imported: each of its cells will say so
            return {}

    def prepare(self) -> None:
        """Make what every cell of this detector needs: the fitted detector, and the scores of the ID images."""
        self._scores(ID)

    def cell_key(self, label: str) -> str:
        """Return the hash of all that determines a cell, and of the names that its row shows."""
        sets = self.sets.ood if label == OVERALL else {label: self.sets.ood[label]}
        return fingerprint(
            detector=self.key,
            id={self.shared.plan.spec.id: self.sets.test.hash},
            ood={name: images.hash for name, images in sets.items()},
            overall=label == OVERALL,
            seed=self.seed,
        )

    def make_cell(self, key: str, label: str) -> Cell:
        """Return a finished cell; whatever it needs and is not stored is made now."""
        known = self._scores(ID)
        if label == OVERALL:
            parts = [self._scores(name).values for name in self.sets.ood]
            other = torch.cat([p[draw_indices(len(p), SHARE_OF_MIX, self.seed)] for p in parts])
            speed, device = None, known.device
        else:
            scores = self._scores(label)
            other, speed, device = scores.values, scores.images_per_second, scores.device
        plan = self.shared.plan
        return Cell(
            key=key,
            detector=self.planned.name,
            model=plan.model.spec.name if self.planned.needs_model else "",
            id=plan.spec.id,
            ood=label,
            seed=self.seed,
            images_per_second=speed,
            device=device,
            options=_plain(self.options),
            model_options=_plain(self.shared.plan.model_options) if self.planned.needs_model else {},
            hashes=self._hashes(label),
            sets={
                "train": _describe(self.sets.train),
                "id": _describe(self.sets.test),
                "ood": list(self.sets.ood) if label == OVERALL else _describe(self.sets.ood[label]),
            },
            versions={
                "oodkit": __version__,
                "torch": str(torch.__version__),
                "python": python_version(),
                "detector": self.planned.entry.origin,
                "model": plan.model.origin if self.planned.needs_model else "",
                **self._outside_versions(),
            },
            batch_spread=known.batch_spread,
            model_file=str(plan.model_file) if plan.model_file is not None and self.planned.needs_model else "",
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            **measure(known.values, other),
        )

    def _hashes(self, label: str) -> dict[str, str]:
        hashes = {
            "model": self.shared.key if self.planned.needs_model else "",
            "detector": self.key,
            "train": self.sets.train.hash,
            "id": self.sets.test.hash,
            "id_scores": self._scores_key(self.sets.test),
        }
        if label != OVERALL:
            ood = self.sets.ood[label]
            hashes |= {"ood": ood.hash, "ood_scores": self._scores_key(ood)}
        return hashes

    def _find_or_fit(self) -> Detector[Any]:  # Any: options of any detector
        size, file = self.shared.plan.spec.batch_size, self.folder.detector_file(self.key)
        detector = self.folder.read(file, lambda path: load_detector(path, self.shared.device, size))
        if detector is not None:
            self.folder.drop_work_folder(self.key)  # a run was killed before it could
            return detector
        if self.planned.needs_model:
            self._memory = self.shared.memory()
        detector = create_detector(
            self.planned.name,
            self.shared.model() if self.planned.needs_model else None,
            device=self.shared.device,
            batch_size=size,
            **self.options.model_dump(),
        )
        detector.work_folder = self.folder.work_folder(self.key)
        start = time.perf_counter()
        with _DiskErrors():
            detector.fit(self.sets.train)
        self.folder.write(file, detector.save)
        self.folder.drop_work_folder(self.key)
        self.shared.say(f"fitted {self.planned.name} in {time.perf_counter() - start:.1f} s")
        return detector

    def _scores_key(self, images: ImageSet) -> str:
        return fingerprint(detector=self.key, images=images.hash)

    def _scores(self, name: str) -> Scores:
        images = self.sets.test if name == ID else self.sets.ood[name]
        return self._scored[name](lambda: self._find_or_score(images))

    def _find_or_score(self, images: ImageSet) -> Scores:
        key = self._scores_key(images)
        scores = self.folder.scores(key)
        if scores is None:
            detector = self._fitted(self._find_or_fit)
            scores = _score(detector, images, self._memory)
            if images is self.sets.test:
                scores = replace(scores, batch_spread=_batch_spread(detector, images, scores.values))
            if self.planned.needs_model:
                scores = _with_reconstructions(scores, detector.model)
            self.folder.write_scores(key, scores, detector=self.planned.name, images=images.name, seed=self.seed)
        return scores


def _score(detector: Detector[Any], images: ImageSet, memory: Memory | None) -> Scores:  # Any: options of any detector
    """Return the scores and the speed, without the first batch where there are more: it warms up.

    The speed is that of the detector alone: what `memory` spared it counts as done.
    """
    everything = torch.arange(len(images))
    parts = [everything[: detector.batch_size], everything[detector.batch_size :]]
    values, seconds = [], 0.0
    for part in parts:
        if len(part):
            start, spared = time.perf_counter(), memory.spared if memory else 0.0
            values.append(detector.score(images.select(part)))  # on the CPU: a GPU has finished
            seconds = time.perf_counter() - start + (memory.spared - spared if memory else 0.0)
    scores = torch.cat(values)
    order = scores.argsort(stable=True)
    extremes = images.images[order[:EXAMPLES]].clone(), images.images[order.flip(0)[:EXAMPLES]].clone()
    return Scores(scores, len(values[-1]) / max(seconds, 1e-9), device_name(detector.device), *extremes)


def _batch_spread(detector: Detector[Any], images: ImageSet, values: Tensor) -> float | None:  # Any: as above
    """Return how far scores move when their images are scored alone; see `Scores`. None: all were scored so."""
    size = detector.batch_size
    if size == 1:
        return None
    few = torch.linspace(0, len(images) - 1, min(ALONE, len(images))).long()
    detector.batch_size = 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of NaN: that was said when all were scored
            alone = detector.score(images.select(few)).double()
    finally:
        detector.batch_size = size
    among = values[few].double()
    change = float((alone - among).abs().masked_fill(alone == among, 0.0).max())  # inf − inf is no change
    finite = values[values.isfinite()].double()
    deviation = float(finite.std()) if len(finite) > 1 else 0.0
    return min(change / max(deviation, 1e-300), MOST)


def _with_reconstructions(scores: Scores, model: GenerativeModel) -> Scores:
    """Return the scores with what `model` makes of their extreme images, where it can."""
    if not isinstance(model, LatentVariableModel):
        return scores
    try:
        lowest, highest = (model.reconstruct(x.to(model.device)).cpu() for x in (scores.lowest, scores.highest))
    except PluginError:  # it has no `decode`
        return scores
    return replace(scores, lowest_reconstructed=lowest, highest_reconstructed=highest)


class _DiskErrors:
    """A context in which a full disk is the run folder's trouble, not one detector's."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ArtifactError) and isinstance(error.__cause__, OSError):
            raise RunFolderError(str(error)) from error


def _plain(options: Options) -> dict[str, Any]:  # Any: what JSON can hold
    """Return the options as strict JSON can hold them, infinity as "inf"; options read such texts back."""
    values = options.model_dump(mode="json")
    return {key: _finite(value) for key, value in values.items()}


def _finite(value: Any) -> Any:  # Any: what JSON can hold, and floats that it cannot
    match value:
        case float():
            return value if math.isfinite(value) else str(value)
        case list():
            return [_finite(one) for one in value]
        case dict():
            return {key: _finite(one) for key, one in value.items()}
    return value


def _describe(images: ImageSet) -> DescribedSet:
    return {
        "count": len(images),
        "shape": list(images.image_shape),
        "source": images.source,
        "steps": list(images.steps),
        "skipped": len(images.skipped),
        "first_skipped": list(images.skipped[:SHOWN_SKIPPED]),
    }
