"""What a plugin is: four hooks, each returning frozen descriptions that import nothing heavy.

A package takes part by an entry point in the group `oodkit` whose value is a module with `@hookimpl` functions:

    [project.entry-points.oodkit]
    typical = "oodkit_typical.plugin"

`target` and `options` are `"module:attribute"` texts, imported when they are needed and not before, so that
`oodkit list` and `oodkit show` never import torch.

A module that needs more than the first interface says so: `OODKIT_INTERFACE = "1.2"`. docs/plugins.md says what the
number promises.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pluggy

__all__ = ["INTERFACE_VERSION", "CurvatureSpec", "DatasetSpec", "DetectorSpec", "ModelSpec", "hookimpl", "hookspec"]

INTERFACE_VERSION = "1.0"  # first number: raised when something is taken away; second: when something is added

hookspec = pluggy.HookspecMarker("oodkit")
hookimpl = pluggy.HookimplMarker("oodkit")


@dataclass(frozen=True, kw_only=True)
class DetectorSpec:
    """One detector. With `over="curvature"` the registry offers `name-<curvature>` for each registered curvature."""

    name: str
    target: str  # a subclass of oodkit.Detector
    summary: str
    options: str = "oodkit.options:DetectorOptions"  # a subclass of DetectorOptions
    # The kind of model that it needs. "any" takes a classifier too, whose log_prob is no density of images.
    model: Literal["any", "density", "latent-variable", "none"] = "any"
    over: Literal["curvature"] | None = None
    default_curvature: str = ""  # with `over`: the one that `name` alone stands for
    aliases: tuple[str, ...] = ()
    source: str = ""  # paper, equation


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """One family of models."""

    name: str
    target: str  # a subclass of oodkit.GenerativeModel, oodkit.LatentVariableModel or oodkit.Classifier, as `kind` says
    summary: str
    options: str = "oodkit.options:ModelOptions"  # a subclass of ModelOptions; a classifier's: of ClassifierOptions
    kind: Literal["density", "latent-variable", "classifier"] = "density"
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """One named set of images."""

    name: str
    target: str  # a function of one oodkit.DatasetRequest that returns an oodkit.ImageSet
    summary: str
    splits: tuple[str, ...] = ("train", "test")
    embedded: bool = False  # needs no files: among the OOD sets of a benchmark that names none
    derived: bool = False  # made from the in-distribution test images (inverted, rotated, …)
    # Model options that suit it as a training set: `oodkit bench` and `train` take them where the user sets none.
    recipe: Mapping[str, Any] = field(default_factory=dict)  # Any: an option's value
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class CurvatureSpec:
    """One approximation of the Fisher information of a layer."""

    name: str
    target: str  # a subclass of oodkit.CurvatureApproximation
    summary: str
    options: str = "oodkit.options:DampingOptions"  # a subclass of CurvatureOptions
    source: str = ""


class Hooks:
    """The four hooks. They run on every `oodkit` command: import nothing heavy, look at no file."""

    @hookspec
    def oodkit_detectors(self) -> list[DetectorSpec]:  # type: ignore[empty-body]  # pluggy calls the plugins', not this
        """Return the detectors that this package adds."""

    @hookspec
    def oodkit_models(self) -> list[ModelSpec]:  # type: ignore[empty-body]  # as above
        """Return the models that this package adds."""

    @hookspec
    def oodkit_datasets(self) -> list[DatasetSpec]:  # type: ignore[empty-body]  # as above
        """Return the data sets that this package adds."""

    @hookspec
    def oodkit_curvatures(self) -> list[CurvatureSpec]:  # type: ignore[empty-body]  # as above
        """Return the curvature approximations that this package adds."""
