"""`BenchSpec`: what a benchmark is asked for, from flags, a TOML file, or both. No torch here."""

import os
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from oodkit.errors import OptionError
from oodkit.options import MAX_SEED, Options

__all__ = ["BASELINE", "BASELINE_LEGEND", "BenchSpec", "parse_settings", "read_spec", "read_specs"]

BASELINE = "complexity"
BASELINE_LEGEND = f"{BASELINE} has no model: what another detector adds to it is what its model knows."
MAX_DOTS = 1000  # in a line, outside of quotes: tomllib takes quadratic time for a key of many parts
QUOTED = re.compile(rb"\"[^\"]*\"|'[^']*'")


def _as_list(value: object) -> object:
    """Return a single number as a list of one; each value of a list once, in order.

    Raises:
        ValueError: there is not one.
    """
    if isinstance(value, int):
        value = [value]
    if value in ([], ()):
        raise ValueError("it names nothing; leave it out for the default")
    if isinstance(value, list | tuple) and all(isinstance(one, str | int) for one in value):
        return list(dict.fromkeys(value))
    return value


def _as_seeds(value: object) -> object:
    """Return the same for seeds.

    Raises:
        ValueError: a text that is no whole number.
    """
    seeds = _as_list(value)
    if isinstance(seeds, list) and (wrong := [one for one in seeds if isinstance(one, str) and not one.isdecimal()]):
        raise ValueError(f"{wrong[0]!r} is no seed; write whole numbers with commas, such as 0,1,2")
    return seeds


Names = Annotated[tuple[str, ...], BeforeValidator(_as_list)]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0, le=MAX_SEED)], ...], BeforeValidator(_as_seeds)]
HomePath = Annotated[Path, AfterValidator(lambda path: Path(os.path.expanduser(path)))]  # no shell reads TOML


class BenchSpec(Options):
    """One benchmark: every detector × OOD set × seed, on one model family and one ID set."""

    detectors: Names = Field(("rose-ekfac", "elbo"), description="Detectors; all: every one that suits the model.")
    baseline: bool = Field(
        True,
        description=f"{BASELINE} beside the detectors: it looks through no model, and is what they are to beat.",
    )
    model: str = Field(
        "vae",
        min_length=1,
        description="A model's name, a file that `oodkit train` wrote, or your own: path/to/module.py:FUNCTION.",
    )
    weights: Path | None = Field(None, description="Weights of a model of your own, safetensors.")
    id: str = Field("digits", min_length=1, description="The in-distribution set: a name or a path.")
    ood: Names = Field(
        (),
        description="OOD sets, names or paths; by default all that need no files. SET*0.4 is the set at 0.4 of its "
        "brightness; resized:SET the ID test images brought to SET's size and channels and back; recompressed:SET "
        "the same, with SET's JPEG compression on the way; leave-out:3 "
        "class 3 of the ID set, which is then in neither training nor test images. A comma of a name's own: \\,",
    )
    skip_missing: bool = Field(False, description="Leave out OOD sets that are not on this machine, and say so.")
    seeds: Seeds = Field((0,), description="Each seed trains, draws images and fits detectors anew.")
    model_seed: int | None = Field(
        None,
        ge=0,
        le=MAX_SEED,
        description="Train one model, with this seed; the seeds then only draw images and fit detectors.",
    )
    limit: int = Field(500, ge=2, description="Test images of each set, at most.")
    train_limit: int | None = Field(None, ge=2, description="Training images, at most; by default all.")
    epochs: int | None = Field(None, ge=0, description="Short for the model's option `epochs`.")
    batch_size: int | None = Field(None, ge=1, description="Images scored at a time.")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N.")
    resize: bool = Field(
        False, description="Convert pictures given by path to the model's size and channels; else they are refused."
    )
    download: bool = Field(False, description="Fetch named sets that are not on this machine.")
    run_folder: HomePath | None = Field(None, description="Where all is kept; by default runs/<ID set>.")
    wait: bool = Field(False, description="Wait for a run folder that another process uses; else it is refused.")
    engine: Literal["serial", "ray"] = Field("serial", description="serial: cell by cell; ray: over a Ray cluster.")
    engine_address: str | None = Field(
        None, description="Of a running Ray cluster (auto: this machine's); by default one is started here."
    )
    options: dict[str, dict[str, Any]] = Field(  # Any: an option's value
        {}, description="Options of detectors and of the model, by name."
    )

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_nul(cls, value: object) -> object:
        if isinstance(value, str) and "\0" in value:
            raise ValueError("no name and no path holds a NUL character")
        return value


def read_spec(file: str | Path | None = None, **flags: Any) -> BenchSpec:  # Any: a field's value
    """Return the spec that a TOML file and flags make together; a flag that is not None wins.

    Args:
        file: keys as the fields of `BenchSpec`; options in tables, `[options.rose-ekfac]`.
        **flags: fields of `BenchSpec`; `options` are joined with the file's, option by option.

    Raises:
        OptionError: no such file, no TOML, an unknown key, a value that is not allowed, or a file of several runs.
    """
    specs = read_specs(file, **flags)
    if len(specs) > 1:
        raise OptionError(f"the spec {file} holds {len(specs)} runs where one is asked for.")
    return specs[0]


def read_specs(file: str | Path | None = None, **flags: Any) -> list[BenchSpec]:  # Any: a field's value
    """Return the specs of a TOML file: one for each table `[[run]]`, or the whole file where there is none.

    What stands outside of the tables holds for each run; a run's own keys win over it, and flags over both. Options
    are joined one by one.

    Raises:
        OptionError: no such file, no TOML, an unknown key, or a value that is not allowed.
    """
    shared = _read_toml(Path(file)) if file is not None else {}
    runs = shared.pop("run", [{}])
    if not isinstance(runs, list) or not runs or not all(isinstance(run, dict) for run in runs):
        raise OptionError(f"the spec {file}: write each run as a table under [[run]].")
    given = {key: value for key, value in flags.items() if value is not None}
    return [BenchSpec.parse("bench", _joined(_joined(shared, run), given)) for run in runs]


def _joined(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:  # Any: what TOML can hold
    """Return `values` with `changes`, where options are joined one by one."""
    joined = {**values, **changes}
    theirs, mine = values.get("options"), changes.get("options")
    if isinstance(theirs, dict) and isinstance(mine, dict):
        joined["options"] = theirs | {
            name: settings | new if isinstance(settings := theirs.get(name, {}), dict) else settings
            for name, new in mine.items()
        }
    return joined


def parse_settings(texts: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return `NAME.OPTION=VALUE` texts as {name: {option: value}}.

    Raises:
        OptionError: a text of another form.
    """
    settings: dict[str, dict[str, str]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        name, dot, option = key.strip().partition(".")
        if not (equals and dot and name and option):
            raise OptionError(f"--set {text}: write NAME.OPTION=VALUE, such as rose-ekfac.damping=1e-6.")
        settings.setdefault(name, {})[option] = value.strip()
    return settings


def _read_toml(file: Path) -> dict[str, Any]:  # Any: what TOML can hold
    try:
        content = file.read_bytes()
        for number, line in enumerate(content.splitlines(), 1):
            if (dots := QUOTED.sub(b"", line).count(b".")) > MAX_DOTS:
                raise OptionError(f"the spec {file}: line {number} has {dots:,} dots; no key of a spec is so long.")
        return tomllib.loads(content.decode())
    except OSError as error:
        raise OptionError(f"cannot read the spec {file}: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:  # of TOML, of UTF-8, or a number of 5,000 digits
        raise OptionError(f"the spec {file} is no TOML file ({error}).") from error
