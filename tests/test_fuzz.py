"""Bad input ends in a correct score or in one clear sentence: no traceback, no hang, no memory without a bound.

`make test` runs the first cases of each kind, `make test-long` more than 2,000. A case is made from its kind and its
number, so that a failure is repeated by them.
"""

import json
import os
import resource
import secrets
import signal
import sys
import warnings
import zipfile
from contextlib import contextmanager
from pathlib import Path

import corpus
import numpy as np
import pytest
import torch
from corpus import generator
from hypothesis import given, strategies as st
from PIL import Image
from safetensors.torch import load as load_tensors, save as save_tensors

import oodkit
from oodkit.artifact import write_artifact
from oodkit.bench.plan import make_plan
from oodkit.bench.report.markdown import as_markdown
from oodkit.bench.report.page import as_html
from oodkit.bench.report.runs import read_runs
from oodkit.bench.rows import read_cells
from oodkit.bench.spec import read_specs
from oodkit.bench.store import read_missing, read_scores
from oodkit.cli import main
from oodkit.errors import ImageError, OodkitError
from oodkit.loading import load_images

pytest_plugins = ["bench_fixtures"]

SECONDS = 30  # a case takes milliseconds; this is for a hang
MEMORY = 1536 * 2**20  # above what was in use: an 80-megapixel picture in three forms
SHORT, LONG = 33, 350  # cases of each kind
ODD_ROWS = 12  # in each report: 400 in the short test


class TookTooLong(BaseException):
    """Not an Exception: nothing that catches those may swallow it."""


@contextmanager
def bounded():
    """Fail where the body hangs or takes memory without a bound."""

    def stop(*_):
        raise TookTooLong

    peak = Path("/proc/self/clear_refs")
    if sys.platform == "linux":
        peak.write_text("5")  # the peak is counted from here
    before = memory("VmRSS")
    old = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)
    assert memory("VmHWM") - before < MEMORY


def memory(field):
    if sys.platform != "linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def sentence(error):
    """What the command line prints of an error; one line that a terminal can show."""
    text = str(error)
    assert text and "\n" not in text and "\x1b" not in text and "Traceback" not in text, repr(text)
    return text


def refused(call):
    """Return what `call` gives, or the sentence with which it refuses."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return call(), None
    except OodkitError as error:
        return None, sentence(error)


# --- each kind: one case --------------------------------------------------------------------------------------------


def check_pictures(rng, folder):
    """One bad picture between two good ones, in a folder and in a .zip: the good ones are all there."""
    good = [corpus.saved(Image.fromarray(corpus.pixels(rng, (8, 8, 3))), "PNG") for _ in range(2)]
    content, suffix, wanted = corpus.good_picture(rng)
    way = rng.choice(corpus.WAYS)
    if rng.random() < 0.15:
        (content, suffix), way, wanted = corpus.claims(rng), "claims", None
    content = content if way in ("as it is", "claims") else corpus.damaged(content, way, rng)
    name = "m" + suffix if rng.random() < 0.5 else rng.choice(corpus.NAMES)
    (folder / "p").mkdir()
    for path, data in (("a.png", good[0]), (name, content), ("z.png", good[1])):
        (folder / "p" / path).write_bytes(data)
    evil = f"evil-{secrets.token_hex(8)}.png"  # of this case alone: anybody may make /tmp/evil.png
    leads_out = rng.random() < 0.3
    inside = rng.choice(corpus.TRAVERSALS).replace("evil.png", evil) if leads_out else name
    packed = corpus.zipped({"a.png": good[0], inside: content, "z.png": good[1]}, link=rng.choice(("", "/etc/passwd")))
    (folder / "p.zip").write_bytes(packed)
    for source in (folder / "p", folder / "p.zip"):
        images = load_images(source, image_shape=(3, 8, 8))
        for skipped in images.skipped:
            sentence(skipped)
        found = {image.numpy().tobytes() for image in images.images}
        for data in good:
            assert load_images(write(folder / "one.png", data)).images[0].numpy().tobytes() in found
        readable = len(images) - 2
        counted = readable + len([s for s in images.skipped if not s.startswith("link.png")])
        assert counted == 1 or (counted == 0 and source.suffix and leads_out)  # no picture's name
        if way == "as it is" and source.is_dir():
            assert readable == 1
            alone = load_images(source / name).images[0]
            np.testing.assert_array_equal(alone.numpy(), wanted)
        if images.skipped:
            with pytest.raises(ImageError) as caught:
                load_images(source, image_shape=(3, 8, 8), strict=True)
            sentence(caught.value)
    assert not (folder.parent / evil).exists() and not Path("/tmp", evil).exists()


def check_containers(rng, folder):
    """A damaged .zip of pictures, or a file of arrays, good or damaged."""
    if rng.random() < 0.5:
        members = {f"{i}.png": corpus.saved(Image.fromarray(corpus.pixels(rng, (8, 8))), "PNG") for i in range(3)}
        content, suffix, images = corpus.zipped(members), ".zip", None
    else:
        content, suffix, images = corpus.arrays(rng)
    way = rng.choice(corpus.WAYS)
    if way != "as it is":
        content = corpus.damaged(content, way, rng)
    made, said = refused(lambda: load_images(write(folder / f"a{suffix}", content)))
    if way == "as it is" and images is not None:
        np.testing.assert_array_equal(made.images.numpy(), images)
    elif way == "as it is" and suffix != ".zip":
        assert said is not None
    if made is not None and suffix == ".npz" and images is not None:
        np.testing.assert_array_equal(made.images.numpy(), images)  # the archive's checksums see to it


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    """A model, a detector and scores, as files; and what the detector says of a few images."""
    folder = tmp_path_factory.mktemp("artifacts")
    images = torch.randint(0, 256, (8, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    model = oodkit.train_model("vae", images, epochs=0, width=1, latent=2, device="cpu")
    model.save(folder / "model")
    detector = oodkit.create_detector("elbo", model).fit(images)
    detector.save(folder / "detector")
    (folder / "scores").mkdir()
    scores = detector.score(images)
    header = {"images_per_second": 1.0, "device": "cpu"}
    extremes = {"lowest": images[:1], "highest": images[:1]}
    write_artifact(folder / "scores" / "k.safetensors", "scores", header, {"scores": scores, **extremes})
    return folder, images, scores


def read_all(path, content, images):
    """Read one file as what it may be; return the scores that each reading leads to."""
    write(path, content)
    (path.parent / "scores").mkdir(exist_ok=True)
    write(path.parent / "scores" / "k.safetensors", content)
    return [
        refused(lambda: oodkit.load_detector(path, "cpu").score(images))[0],
        refused(lambda: oodkit.create_detector("elbo", oodkit.load_model(path, "cpu")).fit(images).score(images))[0],
        getattr(refused(lambda: read_scores(path.parent, "k"))[0], "values", None),
    ]


def check_artifacts(rng, folder, artifacts):
    """A damaged model, detector or file of scores is refused, or else gives the right scores."""
    source, images, scores = artifacts
    file = rng.choice((source / "model", source / "detector", source / "scores" / "k.safetensors"))
    content = file.read_bytes()
    size = 8 + int.from_bytes(content[:8], "little")
    kind = rng.randrange(3)
    if kind == 0:
        content = corpus.damaged(content, rng.choice(corpus.WAYS[1:]), rng)
    elif kind == 1:  # where the header is
        content = corpus.damaged(content[:size], rng.choice(corpus.WAYS[1:]), rng) + content[size:]
    else:
        claim = rng.choice((20 * 2**30, 2**63, 2**64 - 1, size * 2))
        content = claim.to_bytes(8, "little") + content[8:]
    for found in read_all(folder / "artifact", content, images):
        assert found is None or torch.equal(found, scores)


def check_headers(rng, folder, artifacts):
    """A whole artifact whose header says something else, written by someone who knows the format."""
    source, images, _ = artifacts
    file = rng.choice((source / "model", source / "detector", source / "scores" / "k.safetensors"))
    content = file.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["oodkit"])
    tensors = load_tensors(content)
    if rng.random() < 0.2:
        name = rng.choice([name for name, values in tensors.items() if values.is_floating_point()])
        tensors[name] = tensors[name] * rng.choice((float("nan"), float("inf")))
    text = json.dumps(corpus.odd_document(header, rng))
    if rng.random() < 0.1:
        text = "[" * 100_000
    *made, _ = read_all(folder / "artifact", save_tensors(tensors, {"oodkit": text}), images)
    for found in made:
        assert found is None or not found.isnan().any()


SPEC = """
detectors = ["brightness", "nll"]
model = "vae"
id = "digits"
ood = ["noise", "photos*0.5"]
seeds = [0, 1]
limit = 100
[options.vae]
width = 4
[options.brightness]
scale = 2.0
"""
VALUES = [
    "-1",
    "1e400",
    "nan",
    "9999999999999999999999",
    '""',
    '"\\u0000"',
    "[]",
    "{}",
    "[[]]",
    "true",
    '"../../x"',
    "1979-05-27",
]


def check_specs(rng, folder):
    """A spec file, damaged, or with one value of another kind: a plan or one sentence."""
    text = SPEC
    if rng.random() < 0.5:
        lines = text.splitlines()
        place = rng.choice([i for i, line in enumerate(lines) if "=" in line])
        lines[place] = lines[place].partition("=")[0] + "= " + rng.choice([*VALUES, "[" * 5000])
        text = "\n".join(lines)
        content = text.encode()
    else:
        content = corpus.damaged(text.encode(), rng.choice(corpus.WAYS), rng)
    write(folder / "spec.toml", content)
    specs, _ = refused(lambda: read_specs(folder / "spec.toml"))
    for spec in specs or []:
        refused(lambda spec=spec: make_plan(spec))


@pytest.fixture(scope="module")
def result_rows(tmp_path_factory):
    from oodkit.bench.runner import run_bench
    from oodkit.bench.spec import read_spec

    folder = tmp_path_factory.mktemp("rows")
    fields = {"detectors": "elbo", "id": "digits", "ood": "noise,constant", "epochs": 0, "limit": 5, "train_limit": 5}
    fields["baseline"] = False
    run_bench(read_spec(**fields, run_folder=folder, device="cpu"))
    return (folder / "results.jsonl").read_bytes()


def check_rows(rng, folder, result_rows):
    """A damaged row is counted, no figure is read that was not written, and there is a report all the same."""
    (whole, none) = read_cells(result_rows)
    assert (len(whole), none) == (3, [])
    if rng.random() < 0.5:
        content = corpus.damaged(result_rows, rng.choice(corpus.WAYS), rng)
    else:
        lines = result_rows.splitlines()
        lines[1] = json.dumps(corpus.odd_document(json.loads(lines[1]), rng)).encode()
        content = b"\n".join(lines)
    cells, _ = read_cells(content)
    assert all(cell in whole for cell in cells)
    write(folder / "missing.json", rng.choice((content, b"[" * 100_000, b"{}", b'{"a": [1]}', b'{"\\ud800": ""}')))
    assert isinstance(read_missing(folder), dict)
    rows = [json.loads(line) for line in result_rows.splitlines()]
    for _ in range(ODD_ROWS):  # of an older oodkit, which wrote no checksums
        odd = {**rng.choice(rows)}
        del odd["check"]
        content += b"\n" + json.dumps(corpus.odd_document(odd, rng)).encode()
    write(folder / "results.jsonl", content)
    runs, _ = refused(lambda: read_runs([folder]))
    for text in () if runs is None else (as_html(runs), as_markdown(runs)):
        assert text.encode()


def write(path, content):
    path.write_bytes(content)
    return path


KINDS = {
    "pictures": check_pictures,
    "containers": check_containers,
    "artifacts": check_artifacts,
    "headers": check_headers,
    "specs": check_specs,
    "rows": check_rows,
}


def run_case(kind, seed, folder, request):
    check = KINDS[kind]
    wanted = check.__code__.co_varnames[2 : check.__code__.co_argcount]
    folder.mkdir()
    fixtures = [request.getfixturevalue(name) for name in wanted]
    with bounded():
        try:
            check(generator(kind, seed), folder, *fixtures)
        except (Exception, TookTooLong) as error:
            error.add_note(f"case {kind} {seed}")
            raise


@pytest.mark.parametrize("kind", KINDS)
def test_bad_input_gives_a_score_or_a_sentence(kind, request, tmp_path, stub):
    for seed in range(SHORT):
        run_case(kind, seed, tmp_path / str(seed), request)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_2000_cases(kind, request, tmp_path, stub):
    for seed in range(SHORT, LONG + SHORT):
        run_case(kind, seed, tmp_path / str(seed), request)


# --- what needs no drawing ------------------------------------------------------------------------------------------


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(["kind", "format", "model", "options", "image_shape"])


@given(
    header=st.dictionaries(st.sampled_from(["kind", "format", "model", "options", "image_shape"]), JSON),
    kind=st.booleans(),
)
def test_any_header_is_read_or_refused(header, kind, artifacts):
    folder, images, _ = artifacts
    text = json.dumps({"kind": "model" if kind else "detector", "format": 1, **header})
    for found in read_all(folder / "any", save_tensors({"x": torch.zeros(1)}, {"oodkit": text}), images):
        assert found is None


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_as_anything(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("any")
    for suffix in (".png", ".zip", ".npz", ".npy", ".toml"):
        write(folder / f"x{suffix}", content)
    for call in (oodkit.load_model, oodkit.load_detector, load_images):
        for suffix in (".png", ".zip", ".npz", ".npy"):
            assert refused(lambda call=call, suffix=suffix: call(folder / f"x{suffix}"))[1]
    refused(lambda: read_specs(folder / "x.toml"))


def test_an_archive_that_unpacks_to_far_more_than_its_size_is_refused(tmp_path):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", corpus.npy_claiming((2**21, 1, 32, 32)) + bytes(2**24))
        archive.getinfo("images.npy").file_size = 2**31  # as its header says
    with bounded(), pytest.raises(ImageError, match=r"would become 2\.0 GiB"):
        load_images(path)


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe.npz")
    for name in ("pipe.png", "pipe.npz"):
        with bounded(), pytest.raises(OodkitError, match="neither a file nor a folder"):
            load_images(tmp_path / name)


def test_a_folder_with_links_reads_what_is_below_it_once(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    write(folder / "a.png", corpus.saved(Image.new("L", (8, 8)), "PNG"))
    (folder / "loop").symlink_to(folder)
    (folder / "gone.png").symlink_to(tmp_path / "nowhere")
    (folder / "text.png").symlink_to("/etc/passwd")
    images = load_images(folder)
    assert len(images) == 1 and [s.partition(":")[0] for s in images.skipped] == ["text.png"]


# --- the command line -----------------------------------------------------------------------------------------------


@pytest.fixture
def detector_file(tmp_path, stub):
    images = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8)
    oodkit.create_detector("brightness", device="cpu").fit(images).save(tmp_path / "d.oodkit")
    return tmp_path / "d.oodkit"


def test_one_bad_picture_is_named_and_the_rest_is_scored(detector_file, tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    good = corpus.saved(Image.new("L", (8, 8), 7), "PNG")
    for name in corpus.NAMES:
        write(folder / name, good)
    write(folder / "bad.png", b"no picture")
    score = ["score", str(folder), "--detector-file", str(detector_file)]
    assert main(score) == 1
    out, err = capsys.readouterr()
    assert out.count(",7.0\n") == len(corpus.NAMES)
    assert "bad.png" in err and "Traceback" not in err and len(err.splitlines()) == 1
    assert main([*score, "--strict"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "bad.png" in err and len(err.splitlines()) == 1


def test_names_cannot_steer_a_terminal_and_say_where_the_file_is(detector_file, tmp_path, capsys, monkeypatch):
    good = corpus.saved(Image.new("L", (8, 8), 7), "PNG")
    for folder in ("one", "two\x1b[31m"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "bad\n.png", b"no picture")
        write(tmp_path / folder / "good.png", good)
    score = ["score", str(tmp_path / "one"), str(tmp_path / "two\x1b[31m"), "--detector-file", str(detector_file)]
    assert main(score) == 1
    out, err = capsys.readouterr()
    assert "two\x1b[31m/good.png,7.0" in out  # a program gets the name as it is
    one, two = err.splitlines()
    assert one == f"oodkit: {tmp_path}/one/bad\\n.png: it is not a picture, or damaged."
    assert two == f"oodkit: {tmp_path}/two\\x1b[31m/bad\\n.png: it is not a picture, or damaged."
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    main(score)
    assert r"two\x1b[31m/good.png,7.0" in capsys.readouterr().out
    assert main([*score, "--strict"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == one


def test_a_name_that_is_no_text_is_printed_as_it_is(detector_file, tmp_path, capfdbinary):
    folder = os.fsencode(tmp_path / "pictures")
    os.mkdir(folder)
    good = corpus.saved(Image.new("L", (8, 8), 7), "PNG")
    with open(folder + b"/\xff\xfe.png", "wb") as file:
        file.write(good)
    assert main(["score", os.fsdecode(folder), "--detector-file", str(detector_file)]) == 0
    assert b"\xff\xfe.png,7.0" in capfdbinary.readouterr().out
    assert main(["score", os.fsdecode(folder), "--detector-file", str(detector_file), "--json"]) == 0


@pytest.mark.parametrize("seed", ["-1", "18446744073709551616", "9" * 40])
def test_a_seed_that_cannot_be_one_is_refused(seed, capsys):
    for command in (
        ["train", "--model", "vae", "--id", "digits", "--out", "x/m", "--seed", seed, "--epochs", "0"],
        ["fit", "--detector", "rnd-svd", "--id", "digits", "--out", "x/d", "--seed", seed],
        ["bench", "--detector", "elbo", "--seeds", seed],
    ):
        assert main(command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("oodkit: ") and "seed" in line
