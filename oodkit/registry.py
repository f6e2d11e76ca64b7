"""From names to specs, with the package that brought each.

Entry points are loaded one by one, each in its own `try`: a package that is broken becomes one line in
`oodkit list` (`Registry.problems`) and never stops anything else.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Generic, TypeVar

import pluggy

from oodkit.errors import OodkitError, OptionError, PluginError, UnknownNameError
from oodkit.options import CurvatureOptions, DetectorOptions, ModelOptions, Options
from oodkit.plugin import INTERFACE_VERSION, CurvatureSpec, DatasetSpec, DetectorSpec, Hooks, ModelSpec

__all__ = [
    "ENTRY_POINT_GROUP",
    "Registered",
    "Registry",
    "detector_files",
    "detector_options",
    "load_target",
    "model_options",
    "registry",
]

ENTRY_POINT_GROUP = "oodkit"
ARGUMENTS = frozenset({"name", "model", "device", "batch_size"})  # of create_detector: an option cannot be called so

Spec = TypeVar("Spec", DetectorSpec, ModelSpec, DatasetSpec, CurvatureSpec)


@dataclass(frozen=True)
class Registered(Generic[Spec]):
    """A spec and where it comes from."""

    spec: Spec
    distribution: str
    version: str
    module: str = ""  # of the entry point: what every `oodkit` command imports
    curvature: CurvatureSpec | None = None  # of a detector made by `over="curvature"`

    @property
    def origin(self) -> str:
        """The distribution and its version, as `oodkit list` shows them."""
        return f"{self.distribution} {self.version}"


@dataclass
class Registry:
    """All that the installed packages offer."""

    detectors: dict[str, Registered[DetectorSpec]] = field(default_factory=dict)
    models: dict[str, Registered[ModelSpec]] = field(default_factory=dict)
    datasets: dict[str, Registered[DatasetSpec]] = field(default_factory=dict)
    curvatures: dict[str, Registered[CurvatureSpec]] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)  # another name of a detector -> its name
    problems: list[str] = field(default_factory=list)  # one sentence each

    def detector(self, name: str) -> Registered[DetectorSpec]:
        """Return the detector of this name or alias.

        Raises:
            UnknownNameError: no package registers it.
        """
        return self._find("detector", self.detectors, self.aliases.get(name, name), also=self.aliases)

    def model(self, name: str) -> Registered[ModelSpec]:
        """Return the model of this name.

        Raises:
            UnknownNameError: no package registers it.
        """
        return self._find("model", self.models, name)

    def dataset(self, name: str) -> Registered[DatasetSpec]:
        """Return the data set of this name.

        Raises:
            UnknownNameError: no package registers it.
        """
        return self._find("data set", self.datasets, name)

    def curvature(self, name: str) -> Registered[CurvatureSpec]:
        """Return the curvature of this name.

        Raises:
            UnknownNameError: no package registers it.
        """
        return self._find("curvature", self.curvatures, name)

    @staticmethod
    def _find(kind: str, table: dict[str, Registered[Spec]], name: str, also: Iterable[str] = ()) -> Registered[Spec]:
        if name not in table:
            raise UnknownNameError.of(kind, name, [*table, *also])
        return table[name]

    def add(self, table: dict[str, Registered[Spec]], entry: Registered[Spec]) -> None:
        """Put `entry` into one of the four tables; the first to come keeps a name, and both sides are reported."""
        name = entry.spec.name
        if name in table:
            self.problems.append(f"{entry.origin}: {name!r} is already registered by {table[name].origin}; ignored.")
        else:
            table[name] = entry


@cache
def registry() -> Registry:
    """Return what the packages installed in this environment offer; read once per process."""
    found = Registry()
    # Sorted, so that who wins a clash of names does not depend on the order of installation.
    points = sorted(
        metadata.entry_points(group=ENTRY_POINT_GROUP), key=lambda p: (p.dist.name if p.dist else "", p.name)
    )
    for point in points:
        distribution, version = (point.dist.name, point.dist.version) if point.dist else ("?", "?")
        try:
            _collect(found, point.load(), distribution, version)
        except OodkitError as error:
            found.problems.append(f"{distribution} {version}: entry point {point.name!r}: {_one_line(error)}")
        except Exception as error:  # a third party's module may raise anything at import
            found.problems.append(
                f"{distribution} {version}: entry point {point.name!r} is broken: {type(error).__name__}: "
                f"{_one_line(error)}."
            )
    _cross_with_curvatures(found)
    _collect_aliases(found)
    return found


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


def _check_interface(module: object) -> None:
    """Refuse a plugin that was written for another interface.

    Raises:
        PluginError: newer than ours, of an older first number, or no version at all.
    """
    asked = getattr(module, "OODKIT_INTERFACE", "1.0")
    try:
        major, minor = (int(part) for part in asked.split("."))
    except (AttributeError, ValueError):
        raise PluginError(f'OODKIT_INTERFACE is {asked!r}; write two numbers, such as "{INTERFACE_VERSION}"') from None
    our_major, our_minor = (int(part) for part in INTERFACE_VERSION.split("."))
    if (major, minor) > (our_major, our_minor):
        raise PluginError(f"it needs plugin interface {asked}, this oodkit has {INTERFACE_VERSION}; upgrade oodkit.")
    if major < our_major:
        raise PluginError(f"it is made for plugin interface {asked}, this oodkit has {INTERFACE_VERSION}; upgrade it.")


def _collect(found: Registry, module: object, distribution: str, version: str) -> None:
    _check_interface(module)
    manager = pluggy.PluginManager("oodkit")
    manager.add_hookspecs(Hooks)
    manager.register(module)
    manager.check_pending()
    tables: list[tuple[Any, list[Any]]] = [  # Any: by kind of spec
        (found.detectors, list(_specs(manager.hook.oodkit_detectors(), DetectorSpec))),
        (found.models, list(_specs(manager.hook.oodkit_models(), ModelSpec))),
        (found.datasets, list(_specs(manager.hook.oodkit_datasets(), DatasetSpec))),
        (found.curvatures, list(_specs(manager.hook.oodkit_curvatures(), CurvatureSpec))),
    ]
    for table, specs in tables:  # all hooks have returned well: a package is taken whole or not at all
        for spec in specs:
            found.add(table, Registered(spec, distribution, version, getattr(module, "__name__", "")))


def _specs(returned: list[object], kind: type) -> Iterator[Any]:  # Any: one of the four specs
    for specs in returned:
        if not isinstance(specs, list) or not all(isinstance(s, kind) for s in specs):
            raise PluginError(f"a hook must return a list of {kind.__name__}, not {specs!r}")
        yield from specs


def _cross_with_curvatures(found: Registry) -> None:
    """Turn each detector over curvatures into one detector per curvature; an exact name wins."""
    for template in [e for e in found.detectors.values() if e.spec.over == "curvature"]:
        del found.detectors[template.spec.name]
        for curvature in found.curvatures.values():
            name = f"{template.spec.name}-{curvature.spec.name}"
            if name not in found.detectors:
                spec = replace(
                    template.spec,
                    name=name,
                    summary=f"{template.spec.summary}; F: {curvature.spec.summary}",
                    aliases=(template.spec.name,) if curvature.spec.name == template.spec.default_curvature else (),
                )
                found.detectors[name] = replace(template, spec=spec, curvature=curvature.spec)


def _collect_aliases(found: Registry) -> None:
    for name, entry in found.detectors.items():
        for alias in entry.spec.aliases:
            if alias in found.detectors or alias in found.aliases:
                found.problems.append(f"{entry.origin}: alias {alias!r} of {name!r} is already a name; ignored.")
            else:
                found.aliases[alias] = name


def load_target(target: str, owner: str) -> Any:  # Any: whatever the plugin names
    """Return the object that `"module:attribute"` names.

    Raises:
        PluginError: the module cannot be imported or lacks the attribute; the text names `owner` and the reason.
    """
    module, _, attribute = target.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except Exception as error:  # a third party's module may raise anything while it is imported
        kind = "" if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: "
        raise PluginError(
            f"{owner}: cannot load {target!r}: {kind}{error}. Reinstall the package that brings it."
        ) from error


@cache  # one class per detector: options compare equal only within one class
def detector_options(entry: Registered[DetectorSpec]) -> type[DetectorOptions]:
    """Return the options class of a detector; over a curvature, both sets of fields in one class.

    Raises:
        OptionError: the detector and the curvature have an option of the same name.
        PluginError: an option has the name of an argument of `create_detector`.
    """
    own = _options_class(entry.spec.options, DetectorOptions, entry.spec.name)
    if taken := own.model_fields.keys() & ARGUMENTS:
        raise PluginError(
            f"{entry.spec.name} has an option {taken.pop()!r}, which is an argument of create_detector; rename it."
        )
    if entry.curvature is None:
        return own
    of_curvature = _options_class(entry.curvature.options, CurvatureOptions, entry.spec.name)
    shared = (own.model_fields.keys() & of_curvature.model_fields.keys()) - Options.model_fields.keys()
    if shared:
        raise OptionError(f"{entry.spec.name}: detector and curvature both define {', '.join(sorted(shared))}.")
    # The class stands in no module: a copy that joblib takes to another process finds it by the detector's name.
    reduced = {"__reduce__": lambda self: (_options_again, (entry.spec.name, self.model_dump(exclude_unset=True)))}
    return type(own.__name__ + of_curvature.__name__, (own, of_curvature), {"__doc__": own.__doc__, **reduced})


def _options_again(detector: str, values: dict[str, Any]) -> DetectorOptions:  # Any: an option's value
    return detector_options(registry().detector(detector))(**values)


def detector_files(name: str, **options: Any) -> tuple[Path, ...]:  # Any: an option's value
    """Return the files that fitting a detector with these options reads.

    Raises:
        UnknownNameError: no package registers `name`.
        OptionError: an unknown option, or a value that is not allowed.
    """
    entry = registry().detector(name)
    return detector_options(entry).parse(entry.spec.name, options).named_files()


def model_options(entry: Registered[ModelSpec]) -> type[ModelOptions]:
    """Return the options class of a model."""
    return _options_class(entry.spec.options, ModelOptions, entry.spec.name)


OptionsClass = TypeVar("OptionsClass", bound=Options)


def _options_class(target: str, base: type[OptionsClass], owner: str) -> type[OptionsClass]:
    options = load_target(target, owner)
    if not (isinstance(options, type) and issubclass(options, base)):
        raise PluginError(f"{owner}: {target!r} is not a subclass of {base.__name__}.")
    return options
