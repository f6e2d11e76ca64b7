"""The benchmark as a library: specs, plans, sets, the run folder, the runner, the report."""

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from oodkit.artifact import write_atomically
from oodkit.bench.metrics import auroc, fpr_at_tpr
from oodkit.bench.plan import make_plan
from oodkit.bench.report.runs import read_runs
from oodkit.bench.rows import fingerprint
from oodkit.bench.runner import run_bench
from oodkit.bench.sets import SeededSets
from oodkit.bench.spec import parse_settings, read_spec
from oodkit.bench.store import RunFolder, read_missing
from oodkit.bench.tables import as_json, print_tables
from oodkit.errors import ImageError, OodkitError, OptionError, PluginError, RunFolderError, UnknownNameError
from oodkit.loading import load_images
from oodkit.progress import progress_bar
from oodkit.progress_lines import progress_lines

pytest_plugins = ["bench_fixtures"]
pytestmark = pytest.mark.usefixtures("stub", "sets")

STUBS = Path(__file__).parent / "stubs"
OOD = "bright.npz,mixed.npz"


def spec(**fields):
    return read_spec(**{"detectors": "brightness,darkness", "id": "id.npz", "ood": OOD, "baseline": False, **fields})


def run(**fields):
    return run_bench(spec(**fields))


def figures(result):
    """Rows without what differs between two runs of the same work: the time of day and the speed."""
    return [{k: v for k, v in asdict(cell).items() if k not in ("date", "images_per_second")} for cell in result.cells]


# --- what is asked for --------------------------------------------------------------------------------------------


def test_a_file_and_flags_make_one_spec(sets):
    (sets / "run.toml").write_text(
        'detectors = "nll"\nseeds = [3, 4]\nlimit = 7\n[options.nll]\nsamples = 2\nseed = 1\n[options.vae]\nwidth = 2\n'
    )
    made = read_spec("run.toml", limit="9", options=parse_settings(["nll.samples=5"]))
    assert (made.detectors, made.seeds, made.limit) == (("nll",), (3, 4), 9)
    assert made.options == {"nll": {"samples": "5", "seed": 1}, "vae": {"width": 2}}


@pytest.mark.parametrize(
    ("fields", "kind", "words"),
    [
        ({"limit": 0}, OptionError, "bench.limit = 0: input should be greater than or equal to 2"),
        ({"seeds": "1,x"}, OptionError, "bench.seeds"),
        ({"detectors": ""}, OptionError, "bench.detectors"),
        ({"detektors": "nll"}, OptionError, "did you mean detectors"),
        ({"options": {"nll": 3}}, OptionError, "bench.options"),
        ({"options": parse_settings(["nll.samples=3"])}, OptionError, "'nll': it is not in this run"),
        ({"options": parse_settings(["brightness.scale=-1"])}, OptionError, "brightness.scale = '-1'"),
        ({"options": parse_settings(["light.skale=1"])}, OptionError, "did you mean scale"),
        ({"options": parse_settings(["vae.epochs=1"]), "epochs": 2}, OptionError, "epochs are given twice"),
        ({"detectors": "brightnes"}, UnknownNameError, "did you mean brightness"),
        ({"model": "vea"}, UnknownNameError, "did you mean vae"),
        ({"model": "nowhere/model.oodkit"}, OodkitError, "there is no model file nowhere/model.oodkit"),
        ({"detectors": "latent-only", "model": "flat"}, PluginError, "latent-only needs a latent-variable model"),
    ],
)
def test_mistakes_are_found_before_anything_is_read(fields, kind, words):
    with pytest.raises(kind) as caught:
        make_plan(spec(**fields))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_comma_of_a_name_s_own_is_written_with_a_backslash(sets):
    for name in ("night,rain.npz", ",.npz"):
        (sets / name).hardlink_to(sets / "mixed.npz")
    result = run(detectors="brightness", ood=r"night\,rain.npz, \,.npz,mixed.npz")
    assert result.ood == ["night,rain.npz", ",.npz", "mixed.npz"]
    assert spec(ood=["night,rain.npz"]).ood == ("night,rain.npz",)  # as TOML has it


@pytest.mark.parametrize("field", ["ood", "detectors", "seeds"])
@pytest.mark.parametrize("value", ["", " , ", [], ()])
def test_what_names_nothing_does_not_stand_for_the_default(field, value):
    with pytest.raises(OptionError, match=rf"bench\.{field} = .*: it names nothing; leave it out for the default"):
        spec(**{field: value})


@pytest.mark.parametrize("text", ["nll", "nll=3", "nll.samples", ".samples=3", "nll.=3"])
def test_settings_of_another_form_are_refused(text):
    with pytest.raises(OptionError, match=r"NAME\.OPTION=VALUE"):
        parse_settings([text])


@pytest.mark.parametrize("text", ["limit = " + "9" * 5000, "limit = \xff", "[[["])
def test_what_is_no_spec_is_one_sentence(sets, text):
    (sets / "run.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(OptionError, match=r"the spec run\.toml is no TOML file"):
        read_spec("run.toml")


def test_a_key_of_a_spec_that_takes_minutes_to_parse_is_refused(sets):
    """Python's parser takes quadratic time for it: 400 KB, six minutes."""
    Path("spec.toml").write_text(f"limit = 3\na{'.a' * 5000} = 1")
    with pytest.raises(OptionError, match=r"spec\.toml: line 2 has 5,000 dots; no key of a spec is so long"):
        read_spec("spec.toml")


def test_a_line_of_many_file_names_is_no_long_key(tmp_path):
    spec = tmp_path / "spec.toml"
    spec.write_text(f"ood = {[f'set-{i}.v1.npz' for i in range(600)]}\n")
    assert len(read_spec(spec).ood) == 600


@pytest.mark.parametrize("weights", ["inf", "1.0,-inf", "nan"])
def test_an_option_that_is_not_finite_is_kept_in_the_row(weights):
    fields = {"detectors": "brightness", "options": parse_settings([f"brightness.weights={weights}"])}
    result = run(**fields)
    assert result.failures == []
    assert [str(w) for w in result.cells[0].options["weights"]] == weights.split(",")
    assert run(**fields).reused == 3


def test_plan_takes_all_that_suit_the_model_and_each_once():
    names = [d.name for d in make_plan(spec(detectors="all", model="flat")).detectors]
    assert "brightness" in names and "nll" in names and "latent-only" not in names
    assert "latent-only" in [d.name for d in make_plan(spec(detectors="all", model="vae")).detectors]
    assert [d.name for d in make_plan(spec(detectors="light,brightness")).detectors] == ["brightness"]


def test_texts_become_lists_and_none():
    settings = parse_settings(["light.weights=0.5, 2", "brightness.seed=7"])
    (planned,) = make_plan(spec(detectors="light", options=settings)).detectors
    assert planned.options.weights == (0.5, 2.0)
    assert planned.seeded(3).seed == 7  # the user's own seed stands
    (planned,) = make_plan(spec(detectors="light", options=parse_settings(["light.weights=none"]))).detectors
    assert planned.options.weights is None
    assert planned.seeded(3).seed == 3


# --- images -------------------------------------------------------------------------------------------------------


def test_a_path_without_splits_is_split_the_same_way_every_time():
    plan = make_plan(spec(seeds="0,1"))
    loaded = SeededSets(plan, None)
    train, test = loaded[0].train, loaded[0].test
    assert (len(train), len(test)) == (48, 12)
    assert train.image_shape == (1, 32, 32)
    both = {image.numpy().tobytes() for image in [*train.images, *test.images]}
    assert len(both) == 60  # nothing twice, nothing lost
    assert loaded[1].train.hash == train.hash
    assert any(step.startswith("no splits: 48 of 60") for step in train.steps)


def test_a_folder_s_own_splits_are_kept(sets):
    rng = np.random.default_rng(1)
    for split, count in (("train", 6), ("test", 4)):
        (sets / "own" / split).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, size=(32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(sets / "own" / split / f"{i}.png")
    loaded = SeededSets(make_plan(spec(id="own", resize=True)), None)[0]
    assert (len(loaded.train), len(loaded.test)) == (6, 4)
    assert loaded.ood["bright.npz"].image_shape == loaded.test.image_shape == (3, 32, 32)


def test_too_few_images_are_refused(sets):
    np.savez(sets / "few.npz", images=np.zeros((5, 32, 32), dtype=np.uint8))
    with pytest.raises(ImageError, match="5 images are too few to split"):
        run(id="few.npz")


def test_sets_of_one_file_name_keep_their_paths(sets):
    for folder in ("a", "b"):
        (sets / folder).mkdir()
        (sets / folder / "x.npz").write_bytes((sets / f"{'bright' if folder == 'a' else 'mixed'}.npz").read_bytes())
    loaded = SeededSets(make_plan(spec(ood="a/x.npz,b/x.npz,noise")), None)[0]
    assert list(loaded.ood) == ["a/x.npz", "b/x.npz", "noise"]


# --- runs ---------------------------------------------------------------------------------------------------------


def test_cells_are_what_the_detector_s_scores_give():
    result = run(detectors="brightness")
    test = SeededSets(result.plan, None)[0].test
    known = test.images.float().flatten(1).mean(1)
    others = {
        name: load_images(name, image_shape=(1, 32, 32)).images.float().flatten(1).mean(1)
        for name in ("bright.npz", "mixed.npz")
    }
    others["overall"] = torch.cat(list(others.values()))
    assert [cell.ood for cell in result.cells] == list(others)
    for cell in result.cells:
        assert cell.auroc == pytest.approx(auroc(known, others[cell.ood]))
        assert cell.fpr80 == pytest.approx(fpr_at_tpr(known, others[cell.ood], 0.8))
        assert (cell.n_id, cell.n_ood, cell.seed) == (12, len(others[cell.ood]), 0)
    assert result.auroc("brightness", "bright.npz") == result.cells[0].auroc
    with pytest.raises(OodkitError, match=r"no finished cell of brightness on white\.npz"):
        result.auroc("brightness", "white.npz")
    assert any("48 of 60" in step for step in result.cells[0].sets["id"]["steps"])


def test_complexity_stands_beside_every_detector_unless_that_is_declined():
    options = {"complexity": {"lengths": "png"}}  # nobody named it, and its options may be set
    result = run(detectors="brightness", baseline=True, options=options)
    assert [(cell.detector, cell.ood) for cell in result.cells] == [
        (detector, ood) for detector in ("brightness", "complexity") for ood in ("bright.npz", "mixed.npz", "overall")
    ]
    assert result.cells[3].options["lengths"] == ["png"]
    named = run(detectors="complexity,brightness", baseline=True, options=options)
    assert named.reused == 6
    assert [cell.detector for cell in named.cells] == ["complexity"] * 3 + ["brightness"] * 3
    assert {cell.detector for cell in run(detectors="brightness").cells} == {"brightness"}


def test_where_complexity_cannot_be_had_nothing_fails():
    result = run(detectors="brightness", train_limit=2, baseline=True)  # a density needs three images
    assert {cell.detector for cell in result.cells} == {"brightness"}
    assert not result.failures
    assert "needs at least 3 images" in result.left_out["complexity"]
    named = run(detectors="complexity", train_limit=2)
    assert "needs at least 3 images" in named.failures[0].reason  # who asks for it is told


def test_images_of_another_size_are_refused_or_converted_when_that_is_asked_for(stub, sets):
    np.savez(sets / "small.npz", images=np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8))
    with pytest.raises(ImageError, match=r"small.npz: .*not all 1x32x32.*--resize.*bilinear 8x8 -> 32x32"):
        run(ood="small.npz")
    cell = run(ood="small.npz", resize=True).cells[0]
    assert "bilinear 8x8 -> 32x32" in cell.sets["ood"]["steps"]


def test_a_second_run_makes_nothing(stub):
    first = run()
    stub.CALLS.clear()
    second = run()
    assert stub.CALLS == []
    assert (second.reused, second.cells) == (6, first.cells)


def test_what_changes_is_made_again_and_nothing_else(stub):
    run()
    stub.CALLS.clear()
    assert run(ood="mixed.npz").reused == 2
    assert stub.CALLS == []
    changed = run(options=parse_settings(["brightness.scale=2"]))
    assert (changed.reused, stub.CALLS[0]) == (3, "fit")
    assert run(seeds=1).reused == 0


def test_scores_outlive_their_rows(stub, sets):
    first = run()
    (sets / "runs" / "id" / "results.jsonl").unlink()
    stub.CALLS.clear()
    assert figures(run()) == figures(first)
    assert stub.CALLS == []


@pytest.mark.parametrize("call", range(1, 9))
def test_an_interrupted_run_goes_on_where_it_stopped(stub, call, tmp_path):
    whole = run(run_folder=tmp_path / "whole")
    total = len(stub.CALLS)
    assert total >= 8
    stub.CALLS.clear()
    stub.STOP_AT.append(call)
    with pytest.raises(KeyboardInterrupt):
        run(run_folder=tmp_path / "stopped")
    stub.STOP_AT.clear()
    finished = len((tmp_path / "stopped" / "results.jsonl").read_text().splitlines()) if call > 3 else 0
    resumed = run(run_folder=tmp_path / "stopped")
    assert resumed.reused == finished
    assert len(stub.CALLS) == total + 1  # what was stopped is the only call that came twice
    assert figures(resumed) == figures(whole)


def test_failing_detectors_do_not_stop_the_others():
    result = run(detectors="picky,buggy,brightness", ood="mixed.npz,white.npz")
    assert [(c.detector, c.ood) for c in result.cells] == [
        ("buggy", "mixed.npz"),
        ("brightness", "mixed.npz"),
        ("brightness", "white.npz"),
        ("brightness", "overall"),
    ]
    picky, buggy = result.failures
    assert (picky.reason, picky.trace) == ("48 images are too few for picky.", "")
    assert [ood for _, ood, _ in picky.cells] == ["mixed.npz", "white.npz", "overall"]
    assert buggy.reason == "ZeroDivisionError: white images are not foreseen"
    assert "Traceback" in buggy.trace
    assert [ood for _, ood, _ in buggy.cells] == ["white.npz", "overall"]


def test_a_detector_that_cannot_be_fitted_is_tried_once_a_run(stub):
    run(detectors="picky")
    assert stub.CALLS == ["fit"]


def test_nan_scores_count_as_infinite():
    with pytest.warns(UserWarning, match="are NaN; taken as"):
        result = run(detectors="undefined", ood="mixed.npz")
    assert (result.cells[0].auroc, result.cells[0].non_finite_ood) == (pytest.approx(0.5), 12)


# --- the run folder -----------------------------------------------------------------------------------------------


def test_a_half_written_row_is_dropped(sets):
    first = run()
    results = sets / "runs" / "id" / "results.jsonl"
    content = results.read_bytes()
    results.write_bytes(content[:-20])
    again = run()
    assert again.reused == 5
    assert figures(again) == figures(first)
    assert run().reused == 6  # the new row is whole: not glued to the half one


def damage(results, *rows):
    lines = results.read_text().splitlines()
    results.write_text("\n".join([*rows, *lines[len(rows) :]]) + "\n")


def test_a_damaged_row_is_named_once_set_aside_and_made_again(sets):
    first = run()
    folder = sets / "runs" / "id"
    results, aside = folder / "results.jsonl", folder / "damaged.jsonl"
    assert not aside.exists()
    damage(results, "{broken", "{broken, too")
    whole = results.read_text()
    with results.open() as reader:  # of a report, meanwhile
        with pytest.warns(UserWarning, match="2 rows cannot be read; they go to damaged"):
            assert figures(run()) == figures(first)
        assert reader.read() == whole
    assert aside.read_text() == "{broken\n{broken, too\n"
    assert run().reused == 6  # and no warning, which would be an error
    damage(results, "[]")
    with pytest.warns(UserWarning, match="1 rows cannot be read"):
        assert figures(run()) == figures(first)
    assert aside.read_text() == "{broken\n{broken, too\n[]\n"


@pytest.mark.parametrize("file", ["damaged.jsonl", "results.jsonl"])
def test_a_run_that_ends_while_it_sets_rows_aside_loses_none(sets, monkeypatch, file):
    first = run()
    folder = sets / "runs" / "id"
    damage(folder / "results.jsonl", "{broken")
    kept = set((folder / "results.jsonl").read_text().splitlines())

    def ends(path, data):
        if path.name == file:
            path.with_name(f".{path.name}.0123abcd").write_bytes(data[:5])
            raise KeyboardInterrupt
        write_atomically(path, data)

    with monkeypatch.context() as patched:
        patched.setattr("oodkit.bench.store.write_atomically", ends)
        with pytest.warns(UserWarning, match="1 rows cannot be read"), pytest.raises(KeyboardInterrupt):
            run()
    assert set((folder / "results.jsonl").read_text().splitlines()) == kept
    with pytest.warns(UserWarning, match="1 rows cannot be read"):
        again = run()
    assert figures(again) == figures(first) and again.reused == 5
    assert (folder / "damaged.jsonl").read_text() == "{broken\n"
    assert not [path for path in folder.glob(".*.*")]


@pytest.mark.parametrize("kind", ["scores", "detectors"])
def test_a_damaged_file_is_made_again_with_a_warning(stub, sets, kind):
    first = run(detectors="brightness")
    folder = sets / "runs" / "id"
    (folder / "results.jsonl").unlink()
    if kind == "detectors":
        for file in (folder / "scores").iterdir():
            file.unlink()
    for file in (folder / kind).glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.warns(UserWarning, match="It is made again now"):
        again = run(detectors="brightness")
    assert figures(again) == figures(first)
    assert run(detectors="brightness").reused == 3


def test_one_folder_one_process(tmp_path):
    script = (
        "import sys, pathlib; from oodkit.bench.store import RunFolder\n"
        "with RunFolder(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "shared")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunFolderError, match=f"in use by process {other.pid}"):
            run(run_folder=tmp_path / "shared")
        other.stdin.close()
    assert other.returncode == 0
    assert run(run_folder=tmp_path / "shared").failures == []


def test_a_folder_that_cannot_be_made_is_refused_before_any_work(stub, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="cannot write the run folder"):
        run(run_folder=tmp_path / "file")
    assert stub.CALLS == []


@pytest.mark.parametrize("name", ["results.jsonl", "damaged.jsonl", "missing.json", ".owner", ".lock"])
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_where_the_run_folder_has_one_is_refused(tmp_path, name, make):
    """To open a pipe would wait for ever."""
    make(tmp_path / name)
    with pytest.raises(RunFolderError, match=rf"{re.escape(name)} is no file; move it away"), RunFolder(tmp_path):
        pass
    if make is os.mkfifo:
        (tmp_path / "rows").mkdir()
        make(tmp_path / "rows" / "results.jsonl")
        make(tmp_path / "rows" / "missing.json")
        assert read_missing(tmp_path / "rows") == {}
        with pytest.raises(RunFolderError, match=r"there is no results\.jsonl"):
            read_runs([tmp_path / "rows"])


@pytest.mark.skipif(sys.platform != "linux", reason="a file that exists and cannot be read, whoever asks")
def test_rows_that_cannot_be_read_are_one_sentence(tmp_path):
    (tmp_path / "results.jsonl").symlink_to("/proc/self/mem")
    with pytest.raises(RunFolderError, match=r"cannot read .*: Input/output error"), RunFolder(tmp_path):
        pass
    with pytest.raises(RunFolderError, match=r"cannot read .*results\.jsonl: Input/output error"):
        read_runs([tmp_path])


def test_a_full_disk_stops_the_run_and_keeps_what_is_finished(sets):
    script = (
        "import resource; from oodkit.bench.runner import run_bench; from oodkit.bench.spec import read_spec\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (16000, 16000))\n"  # results.jsonl has no room for all 18 rows
        f"run_bench(read_spec(detectors='brightness,darkness', id='id.npz', ood={OOD!r}, seeds='0,1,2'))"
    )
    environment = {**os.environ, "PYTHONPATH": str(STUBS)}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert "RunFolderError: cannot write" in ended.stderr.splitlines()[-1]
    resumed = run(seeds="0,1,2")
    assert 0 < resumed.reused < 18
    assert figures(resumed) == figures(run(seeds="0,1,2", run_folder=sets / "whole"))


def test_a_fingerprint_depends_on_all_parts_and_not_on_their_order():
    assert fingerprint(a=1, b={"x": 1, "y": 2}) == fingerprint(b={"y": 2, "x": 1}, a=1)
    assert len({fingerprint(a=1), fingerprint(a=2), fingerprint(b=1), fingerprint(a="1")}) == 4


@pytest.mark.parametrize("width", [200, 40])
def test_names_are_printed_as_they_are(sets, capsys, width):
    names = ["pics[old].npz", "pics[new].npz", "a:smile:.npz"]
    for name in names:
        (sets / name).write_bytes((sets / "mixed.npz").read_bytes())
    result = run(ood=",".join(names), run_folder=sets / "run[/i]")
    print_tables(result, Console(width=width, color_system=None, soft_wrap=True))
    printed = capsys.readouterr().out
    assert all(name in printed for name in names)
    assert f"Run folder: {sets}/run[/i] (" in printed


def test_a_name_on_a_progress_bar_is_printed_as_it_is(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes it for a terminal
    monkeypatch.setenv("COLUMNS", "120")
    with progress_bar("train vae on rk3[/b]", total=1) as bar:
        bar.advance()
    assert "train vae on rk3[/b]" in capsys.readouterr().err


def test_where_there_is_no_terminal_a_line_now_and_then_says_how_far_it_is(monkeypatch, capsys):
    said = []
    with progress_lines(said.append), progress_bar("soon done", total=2) as bar:
        bar.advance()  # within a minute
    assert not said
    monkeypatch.setattr("oodkit.progress.EVERY", 0)
    with progress_bar("a program that imports oodkit", total=2) as bar:
        bar.advance()
    with progress_lines(said.append), progress_bar("train vae on digits", total=300, done=100) as bar:
        bar.advance(50)
        bar.advance(50, note="3.5 bits/dim")
        bar.advance(100)  # the last step needs no line
    assert said == [
        "train vae on digits: 150 of 300, 0:00:00 gone, about 0:00:00 left",
        "train vae on digits: 200 of 300, 0:00:00 gone, about 0:00:00 left, 3.5 bits/dim",
    ]
    assert capsys.readouterr().err == ""


def test_a_mean_over_fewer_sets_says_so(capsys):
    result = run(detectors="buggy,brightness", ood="mixed.npz,white.npz")
    summary = json.loads(as_json([result]))["summary"]
    assert summary["buggy"]["mean"]["auroc"]["partial"] == "1 of 2"
    assert summary["brightness"]["mean"]["auroc"]["partial"] == ""
    print_tables(result, Console(width=200, color_system=None))
    assert capsys.readouterr().out.count("(1 of 2)") > 2


# --- the report ---------------------------------------------------------------------------------------------------


def test_json_is_strict_and_sums_up_over_sets_and_seeds():
    result = run(detectors="brightness", seeds="0,1")

    def refuse(constant):
        raise AssertionError(constant)

    document = json.loads(as_json([result]), parse_constant=refuse)
    assert len(document["cells"]) == 6
    by_seed = [[c["auroc"] for c in document["cells"] if c["seed"] == s and c["ood"] != "overall"] for s in (0, 1)]
    mean, worst = (document["summary"]["brightness"][row] for row in ("mean", "worst"))
    assert mean["auroc"]["mean"] == pytest.approx(np.mean(by_seed))
    assert worst["auroc"]["mean"] == pytest.approx(np.mean([min(s) for s in by_seed]))
    assert worst["auroc"]["deviation"] == pytest.approx(np.std([min(s) for s in by_seed], ddof=1))
    fprs = [[c["fpr95"] for c in document["cells"] if c["seed"] == s and c["ood"] != "overall"] for s in (0, 1)]
    assert worst["fpr95"]["mean"] == pytest.approx(np.mean([max(s) for s in fprs]))
