"""From a spec to a plan: every name and option is looked up here, before any data is read or model trained."""

import os
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oodkit.bench.code import package_identity
from oodkit.bench.spec import BASELINE, BenchSpec
from oodkit.errors import ArtifactError, OptionError, PluginError, UnknownNameError
from oodkit.options import DetectorOptions, ModelOptions
from oodkit.plugin import DetectorSpec, ModelSpec
from oodkit.registry import Registered, detector_options, model_options, registry

if TYPE_CHECKING:
    import torch

    from oodkit.model import GenerativeModel

__all__ = ["Plan", "PlannedDetector", "is_own_model", "make_plan", "training_options"]


@dataclass(frozen=True)
class PlannedDetector:
    """A detector of the run, with checked options."""

    entry: Registered[DetectorSpec]
    options: DetectorOptions
    asked: bool = True  # False of the baseline, where no detector of the spec is it

    @property
    def name(self) -> str:
        """The registered name."""
        return self.entry.spec.name

    @property
    def needs_model(self) -> bool:
        """Whether it looks through a model."""
        return self.entry.spec.model != "none"

    @cached_property
    def identity(self) -> str:
        """What hashes have of the package that brings it."""
        return package_identity(self.entry)

    def seeded(self, seed: int) -> DetectorOptions:
        """Return the options with the run's seed, unless the user set one."""
        if "seed" in self.options.model_fields_set:
            return self.options
        return self.options.model_copy(update={"seed": seed})

    @cached_property
    def file_hashes(self) -> dict[str, str]:
        """The SHA-256 of each file that the options name.

        Raises:
            OptionError: there is no such file, or it cannot be read; for an ensemble, a member's options are wrong too.
        """
        hashes = {}
        for file in self.options.named_files():
            try:
                special = file.exists() and not file.is_file()
                content = b"" if special else file.read_bytes()  # a pipe may have nothing to say, for ever
            except (OSError, ValueError) as error:  # ValueError: of a NUL in the name
                reason = getattr(error, "strerror", None) or error
                raise OptionError(f"{self.name}: {file} cannot be read ({reason}); name another file.") from error
            if special:
                raise OptionError(f"{self.name}: {file} is no file; name another.")
            hashes[str(file)] = sha256(content).hexdigest()
        return hashes


@dataclass(frozen=True)
class Plan:
    """What a run will do."""

    spec: BenchSpec
    detectors: tuple[PlannedDetector, ...]
    model: Registered[ModelSpec]
    model_options: ModelOptions
    model_file: Path | None  # of a model that is trained already
    ood: tuple[str, ...]
    run_folder: Path

    def trained_model(self, device: "torch.device") -> "GenerativeModel | None":
        """Return the model of a file, or of your own; None where it is to be trained."""
        if self.model_file is None:
            return None
        from oodkit.adapted import load_own_model
        from oodkit.named_models import load_model

        if self.model_file.suffix == ".py":
            return load_own_model(self.spec.model, self.spec.weights, device)
        return load_model(self.model_file, device)

    @cached_property
    def model_identity(self) -> str:
        """What hashes have of the package that brings the model."""
        return package_identity(self.model)

    def model_hash(self) -> str:
        """Return the SHA-256 of the file, or of the files, that the model comes from."""
        from oodkit.adapted import own_model_hash

        if self.model_file is None:
            return ""
        if self.model_file.suffix == ".py":
            return own_model_hash(self.spec.model, self.spec.weights)
        return sha256(self.model_file.read_bytes()).hexdigest()


def make_plan(spec: BenchSpec) -> Plan:
    """Return the plan of `spec`.

    Raises:
        UnknownNameError: a detector or model that no package registers.
        OptionError: an unknown option, a value that is not allowed, options for what is not in the run, or a file that
            an option names and that is not there.
        PluginError: a detector that cannot use the model.
        ArtifactError: the model's file is damaged or none.
    """
    entry, saved, file = _find_model(spec.model, spec.weights)
    entries = _find_detectors(spec.detectors, entry)
    asked = len(entries)
    baseline = registry().detectors.get(BASELINE) if spec.baseline else None
    if baseline is not None and baseline not in entries:
        entries.append(baseline)
    settings = _named_settings(spec, [e.spec.name for e in entries], entry.spec.name)
    of_model = settings.pop(entry.spec.name, {})
    if file is not None and of_model:
        raise OptionError(f"the model comes from {file}: {', '.join(of_model)} cannot be changed any more.")
    detectors = tuple(
        PlannedDetector(e, detector_options(e).parse(e.spec.name, settings.get(e.spec.name, {})), number < asked)
        for number, e in enumerate(entries)
    )
    for detector in detectors:
        _ = detector.file_hashes  # a file that is missing is found now, not when a model has been trained
    return Plan(
        spec=spec,
        detectors=detectors,
        model=entry,
        model_options=training_options(entry, spec.id, {**saved, **of_model}),
        model_file=file,
        ood=spec.ood or tuple(n for n, e in registry().datasets.items() if e.spec.embedded and n != spec.id),
        run_folder=spec.run_folder or Path("runs") / (Path(spec.id).resolve().stem or "bench"),
    )


def training_options(entry: Registered[ModelSpec], source: str, values: dict[str, Any]) -> ModelOptions:
    """Return a model's options for training on `source`: `values`, then what the data set recommends, then defaults.

    Raises:
        OptionError: an unknown option, or a value that is not allowed.
    """
    kind = model_options(entry)
    dataset = registry().datasets.get(source)
    recipe = dict(dataset.spec.recipe) if dataset is not None else {}
    known = {option: value for option, value in recipe.items() if option in kind.model_fields}
    return kind.parse(entry.spec.name, {**known, **values})


def is_own_model(name: str) -> bool:
    """Return whether `name` is meant for a model of your own, path/to/module.py:FUNCTION."""
    return ".py:" in name or name.endswith(".py")  # without a function it is refused where it is loaded


def _find_model(name: str, weights: Path | None) -> tuple[Registered[ModelSpec], dict[str, Any], Path | None]:
    # The model's entry; for a file also the options that it was trained with, and its path.
    if is_own_model(name):
        return _own_entry(name, weights), {}, Path(name.rpartition(":")[0])
    if weights is not None:
        raise OptionError(f"weights go with a model of your own, --model path/to/module.py:FUNCTION, not with {name}.")
    if name in registry().models:
        return registry().model(name), {}, None
    path = Path(os.path.expanduser(name))  # of an unknown user, pathlib raises RuntimeError
    if not path.exists():
        if path.name == name and not path.suffix:
            raise UnknownNameError.of("model (or file)", name, registry().models)
        raise ArtifactError(f"there is no model file {name}; `oodkit train --out {name}` makes one.")
    from oodkit.artifact import read_artifact  # imports torch: only where there is a file

    header, _ = read_artifact(path, "model")
    if header.get("model") not in registry().models:
        raise ArtifactError(
            f"{path} holds a model {header.get('model')!r} of {header.get('origin') or 'an unknown package'}; "
            "install it."
        )
    return registry().model(header["model"]), header.get("options", {}), path


def _own_entry(reference: str, weights: Path | None) -> Registered[ModelSpec]:
    """Return an entry for a model that no plugin registers; its file is run, to see what kind it is."""
    from oodkit.adapted import load_own_model, own_model_hash  # import torch: only where there is such a model
    from oodkit.model import LatentVariableModel

    model = load_own_model(reference, weights, "cpu")
    spec = ModelSpec(
        name=model.name,
        target="",
        summary="a model of your own",
        kind="latent-variable" if isinstance(model, LatentVariableModel) else "density",
    )
    return Registered(spec, reference, own_model_hash(reference, weights)[:12])


def _find_detectors(names: tuple[str, ...], model: Registered[ModelSpec]) -> list[Registered[DetectorSpec]]:
    if "all" in names:
        return [e for _, e in sorted(registry().detectors.items()) if _suits(e.spec, model.spec)]
    entries = {entry.spec.name: entry for entry in (registry().detector(name) for name in names)}
    for name, entry in entries.items():
        if not _suits(entry.spec, model.spec):
            raise PluginError(
                f"{name} needs a {entry.spec.model} model, and {model.spec.name} is none. "
                "Choose another model, or another detector."
            )
    return list(entries.values())


def _suits(detector: DetectorSpec, model: ModelSpec) -> bool:
    kinds = {"density": ("density", "latent-variable"), "latent-variable": ("latent-variable",)}
    return detector.model in ("none", "any") or model.kind in kinds[detector.model]


def _named_settings(spec: BenchSpec, detectors: list[str], model: str) -> dict[str, dict[str, Any]]:
    """Return the options by registered name, `epochs` among the model's.

    Raises:
        OptionError: options of something that is not in the run, or epochs given twice.
    """
    settings: dict[str, dict[str, Any]] = {}
    for name, values in spec.options.items():
        known = registry().aliases.get(name, name)
        if known not in (*detectors, model):
            raise OptionError(
                f"options for {name!r}: it is not in this run, which has {', '.join((*detectors, model))}."
            )
        settings[known] = {**settings.get(known, {}), **values}
    if spec.epochs is not None:
        if "epochs" in settings.get(model, {}):
            raise OptionError(f"epochs are given twice: as epochs and as {model}.epochs.")
        settings[model] = {**settings.get(model, {}), "epochs": spec.epochs}
    return settings
