"""What a user stakes on a score: no code from data, the same seed gives the same bits, and no number is lost."""

import json
import os
import pickle
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
import torch
from samples import named_pngs, random_images, write_zip

import oodkit
from oodkit.bench.metrics import auroc
from oodkit.cli import main
from oodkit.loading import load_images
from oodkit.testing.source import assert_no_pickle
from oodkit_datasets.download import by_https

pytest_plugins = ["bench_fixtures"]

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ["oodkit", *sorted(path.name for path in (ROOT / "plugins").iterdir() if (path / "plugin.py").exists())]


# --- no code from data ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", PACKAGES)
def test_no_line_of_ours_pickles_or_unpickles(package):
    assert_no_pickle(package)


def test_every_plugin_of_ours_is_looked_at():
    assert {point.value.partition(".")[0] for point in entry_points(group="oodkit")} >= set(PACKAGES) - {"oodkit"}


UNPICKLING = [
    "import pickle",
    "import _pickle as fast",
    "from pickle import loads",
    "from importlib import import_module\nimport_module('pickle').loads(b'')",
    "__import__('pickle').loads(b'')",
    "from joblib import load",
    "import dill",
    "import cloudpickle",
    "import shelve",
    "import marshal",
    "import torch\ntorch.load('x')",
    "import torch\ntorch.load('x', weights_only=False)",
    "import torch\ntorch.load('x', None, None)",
    "from torch import load\nload('x')",
    "from torch import load as read\nread('x')",
    "from torch import *\nload('x')",
    "import torch as t\nt.load('x')",
    "import torch\nt = torch\nt.load('x')",
    "import torch\nread = torch.load",
    "import torch\ngetattr(torch, 'load')('x')",
    "import importlib\nimportlib.import_module('torch').load('x')",
    "from torch import serialization\nserialization.load('x')",
    "import torch\ntorch.hub.load('a/b', 'c')",
    "from torch import jit\njit.load('x')",
    "import torch.jit as compiled\ncompiled.load('x')",
    "import torch\ntorch.save(1, 'x')",
    "import numpy as np\nnp.load('x', None, True)",
    "import numpy as np\nnp.load('x', allow_pickle=True)",
    "import numpy as np\nnp.load('x', **{'allow_pickle': True})",
    "from numpy import load\nload('x', None, True)",
    "import numpy\nfrom functools import partial\npartial(numpy.load, allow_pickle=True)",
    "import pandas\npandas.read_pickle('x')",
    "from pandas import read_pickle\nread_pickle('x')",
    "def save(frame): frame.to_pickle('x')",
]
INNOCENT = [
    "import torch\ntorch.load('x', weights_only=True)",
    "from torch import load\nload('x', map_location='cpu', weights_only=True)",
    "import torch as t\nread = lambda file: t.load(file, weights_only=True)",
    "import numpy as np\nnp.load('x')\nnp.load('x', allow_pickle=False)\nnp.load('x', None, False)\nnp.save('x', [1])",
    "import json\njson.load(open('x'))\njson.dump([], open('x', 'w'))",
    "from safetensors.torch import load, load_file, save\nload(b'')\nload_file('x')\nsave({})",
    "from .pickle import cucumber",
    "from oodkit import load_model\nload_model('x')",
    "import torch\nmodel = torch.nn.Linear(1, 1)\nmodel.load_state_dict({})\nmodel.save = model.load = None",
    "from importlib import import_module\nimport_module('json').load(open('x'))",
    "def load(path): return path\n\nload('pickle')",
]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A function that makes a package of one line or a few, and returns its name."""

    def make(source):
        (tmp_path / "a_package").mkdir()
        (tmp_path / "a_package" / "__init__.py").write_text("")
        (tmp_path / "a_package" / "reads.py").write_text(source)
        monkeypatch.syspath_prepend(str(tmp_path))
        return "a_package"

    return make


@pytest.mark.parametrize("source", UNPICKLING)
def test_what_pickles_or_unpickles_is_found_by_any_name(package, source):
    with pytest.raises(AssertionError, match=r"reads\.py, line \d"):
        assert_no_pickle(package(source))


@pytest.mark.parametrize("source", INNOCENT)
def test_what_reads_in_other_ways_is_let_through(package, source):
    assert_no_pickle(package(source))


WATCH = """
import os, sys
OURS = tuple(os.environ["OURS"].split(os.pathsep))
found = []

def watch(event, arguments):
    if event in ("pickle.find_class", "socket.connect", "socket.getaddrinfo", "urllib.Request"):
        found.append((event, repr(arguments)[:80]))
    if event in ("exec", "compile", "marshal.loads"):
        frame = sys._getframe(1)
        if frame.f_code.co_filename.startswith(OURS):
            found.append((event, frame.f_code.co_filename))
    if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn") and "oodkit" in repr(arguments):
        found.append((event, repr(arguments)[:80]))

sys.addaudithook(watch)
from oodkit.cli import main
for line in sys.stdin.read().splitlines():
    code, _, command = line.partition(" ")
    if main(command.split()) != int(code):
        found.append(("exit code", line))
for module in list(sys.modules.values()):
    if (getattr(module, "__file__", None) or "").startswith(os.getcwd()):
        found.append(("import", module.__file__))
for one in found:
    print("FOUND", *one)
"""


class Hostile:
    """Makes a folder where it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def watched(tmp_path):
    """A function that runs commands, each behind its exit code, and returns what the watch found."""

    def run(*commands):
        environment = {
            **os.environ, "OURS": f"{ROOT}/oodkit{os.pathsep}{ROOT}/plugins", "OMP_NUM_THREADS": "1",
            "OODKIT_DATA": str(tmp_path / "data"),
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", WATCH], input="\n".join(commands), cwd=tmp_path, env=environment,
            check=False, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return [line.removeprefix("FOUND ") for line in done.stdout.splitlines() if line.startswith("FOUND")]

    return run


def test_a_whole_run_unpickles_nothing_runs_nothing_and_asks_no_network(watched, tmp_path):
    """Every kind of file is read: those of ours, an archive, and pickles that would make a folder."""
    small = "--set vae.width=2 --set vae.latent=2 --device cpu"
    hostile = Hostile(tmp_path / "it ran")
    write_zip(tmp_path / "pictures.zip", {**named_pngs(random_images(6, 1)), "nested/trap.py": b"import nowhere"})
    np.save(tmp_path / "hostile.npy", np.array([hostile], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "hostile.npz", images=np.array([hostile], dtype=object))
    content = {b"data": np.zeros((4, 3072), dtype=np.uint8), b"labels": [hostile] * 4}
    for name, held in (("hostile.oodkit", hostile), ("data/cifar-10-batches-py/test_batch", content)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(pickle.dumps(held, protocol=2))
    found = watched(
        f"0 train --model vae --id digits --out vae.oodkit --epochs 1 --limit 40 {small}",
        "0 fit --detector rose-ekfac --model-file vae.oodkit --id digits --out rose.oodkit --limit 40 --device cpu",
        "0 score digits pictures.zip --resize --detector-file rose.oodkit --device cpu",
        "0 explain pictures.zip --resize --detector-file rose.oodkit --device cpu --patch 16 --limit 2 --out maps",
        f"0 bench --detector rose-diag,elbo,ic-png --id digits --ood noise,photos --epochs 1 --limit 6 "
        f"--train-limit 40 {small}",
        "0 report runs/digits --explain",
        "0 report runs/digits --markdown",
        "2 score hostile.npy --detector-file rose.oodkit --device cpu",
        "2 score hostile.npz --detector-file rose.oodkit --device cpu",
        "0 score cifar10 --resize --detector-file rose.oodkit --device cpu",
        "2 score digits --detector-file hostile.oodkit --device cpu",
        "2 fit --detector elbo --model-file hostile.oodkit --id digits --out no.oodkit --device cpu",
    )
    assert found == []
    assert not hostile.folder.exists()


def test_the_watch_sees_what_unpickles(watched, tmp_path):
    """In a file that is run because `--model` names it."""
    dumped = pickle.dumps(Hostile(tmp_path / "it ran"))
    (tmp_path / "mine.py").write_text(f"import pickle\ndef make():\n    pickle.loads({dumped!r})\n    return 1\n")
    (found,) = watched("2 train --model mine.py:make --id digits --out no.oodkit --device cpu")
    assert found.startswith("pickle.find_class")
    assert (tmp_path / "it ran").exists()


def test_downloads_go_by_https():
    """The addresses are torchvision's, which may not be importable here; it checks an MD5 for each file."""

    test = ["http://ufldl.stanford.edu/housenumbers/test_32x32.mat", "test_32x32.mat", "eb5a983be6a315427106f1b164d9"]
    mnist = ["https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"]
    fashion = ["http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"]
    svhn = by_https(type("SVHN", (), {"split_list": {"test": test}}))
    assert svhn.split_list["test"] == [test[0].replace("http:", "https:"), *test[1:]]
    assert svhn.__name__ == "SVHN"  # it names the folder
    assert by_https(type("MNIST", (), {"mirrors": mnist})).mirrors == mnist[:1]
    assert by_https(type("FashionMNIST", (), {"mirrors": fashion})).mirrors[0].startswith("https://")


# --- the same numbers -----------------------------------------------------------------------------------------------

JOB = ("bench", "--no-baseline",
       "--detector", "rose-ekfac,elbo,lr-z,rnd-svd", "--id", "digits", "--ood", "noise", "--epochs", "1",
       "--train-limit", "60", "--limit", "8", "--set", "vae.width=2", "--set", "vae.latent=2", "--device", "cpu",
       "--set", "rnd-svd.epochs=1", "--set", "rnd-svd.fitting_images=20")  # fmt: skip


def test_the_same_seed_gives_the_same_bits(tmp_path, capsys):
    from safetensors.torch import load_file

    figures, tensors = [], []
    for name in ("one", "two"):
        assert main([*JOB, "--json", "--run-folder", str(tmp_path / name)]) == 0
        cells = json.loads(capsys.readouterr().out)["cells"]
        figures.append([{k: v for k, v in c.items() if k not in ("date", "images_per_second")} for c in cells])
        files = sorted(p for p in (tmp_path / name).rglob("*.safetensors"))
        tensors.append({str(p.relative_to(tmp_path / name)): load_file(p) for p in files})
    assert figures[0] == figures[1]
    one, two = tensors
    assert one.keys() == two.keys() and len(one) >= 4 + 8 + 1
    for file, held in one.items():
        assert all(torch.equal(values, two[file][key]) for key, values in held.items()), file


@pytest.mark.parametrize(
    ("name", "options", "bound"),
    [
        *((name, {}, 1e-3) for name in ("rose-ekfac", "rose-diag", "elbo", "nll")),
        # Adam follows the sign of small gradients, and so carries a rounding error on: 2e-3 after a hundred steps.
        ("lr-z", {"steps": 10, "samples": 5}, 5e-3),
    ],
)
def test_float32_agrees_with_float64(name, options, bound, tmp_path):
    """The order of the scores, and AUROC, to a thousandth."""
    from scipy.stats import spearmanr

    images = load_images("digits", "train", limit=300)
    model = oodkit.train_model("vae", images, epochs=2, width=4, latent=4, device="cpu")
    twin = oodkit.create_model("vae", model.image_shape, device="cpu", **model.options.model_dump()).double()
    twin.load_state_dict({key: value.double() for key, value in model.state_dict().items()})
    known, other = load_images("digits", limit=100), load_images("photos", limit=100, image_shape=model.image_shape)
    scores = []
    for one in (model, twin):
        detector = oodkit.create_detector(name, one, **options).fit(images)
        scores.append((detector.score(known), detector.score(other)))
    (known_32, other_32), (known_64, other_64) = scores
    rank = spearmanr(torch.cat([known_32, other_32]), torch.cat([known_64, other_64])).statistic
    difference = abs(auroc(known_32, other_32) - auroc(known_64, other_64))
    assert 1 - rank < bound and difference < bound, (1 - rank, difference)


# --- no number is lost ----------------------------------------------------------------------------------------------


def test_scores_that_are_not_finite_are_counted_named_and_most_ood(stub, sets, capsys):
    assert (
        main(["bench", "--detector", "undefined,brightness", "--id", "id.npz", "--ood", "mixed.npz", "--resize"]) == 0
    )
    out, err = capsys.readouterr()
    assert "undefined: 12 of 12 scores are NaN; taken as +inf." in err
    assert "undefined, seed 0: infinite scores of 12 of 12 images of id.npz and 12 of 12 of mixed.npz" in out
    assert "brightness, seed 0: infinite" not in out


def test_an_infinite_score_ranks_above_every_finite_one():
    known = torch.tensor([0.0, 1.0, 2.0])
    assert auroc(known, torch.tensor([float("inf"), float("nan"), 3.4e38])) > 1 - 1e-9
    assert auroc(torch.tensor([float("inf"), 1.0]), known) == pytest.approx(0.25)  # one tie, one pair in order, of six


# --- long runs ------------------------------------------------------------------------------------------------------


def out_of_memory_above(limit, function):
    """A function that takes at most `limit` images, as on a device that has memory for no more."""
    taken = []

    def limited(*arguments, **keywords):
        images = next(a for a in arguments if isinstance(a, torch.Tensor))
        if len(images) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        taken.append(len(images))
        return function(*arguments, **keywords)

    return limited, taken


@pytest.mark.parametrize("limit", [1, 3, 7])
def test_where_memory_runs_out_batches_are_halved_and_scores_stay(limit, monkeypatch):
    images = load_images("digits", limit=40)
    model = oodkit.create_model("vae", images.image_shape, device="cpu", width=2, latent=2)
    expected = {name: oodkit.create_detector(name, model).fit(images).score(images) for name in ("rose-diag", "elbo")}
    limited, taken = out_of_memory_above(limit, model.encode)
    monkeypatch.setattr(model, "encode", limited)
    for name, scores in expected.items():
        with pytest.warns(UserWarning, match="the memory of cpu ran out; going on with"):
            found = oodkit.create_detector(name, model, batch_size=32).fit(images).score(images)
        torch.testing.assert_close(found, scores, rtol=1e-4, atol=1e-3)
    assert max(taken) <= limit


def test_one_image_that_does_not_fit_is_one_sentence(monkeypatch):
    images = load_images("digits", limit=4)
    model = oodkit.create_model("vae", images.image_shape, device="cpu", width=2, latent=2)
    detector = oodkit.create_detector("elbo", model).fit(images)
    monkeypatch.setattr(model, "encode", out_of_memory_above(0, model.encode)[0])
    with pytest.warns(UserWarning, match="ran out"), pytest.raises(oodkit.OodkitError, match="one image needs more"):
        detector.score(images)


class CountedKey(str):
    """A cell's key that counts how often it is compared."""

    compared = 0

    def __eq__(self, other):
        CountedKey.compared += 1
        return str(self) == other

    __hash__ = str.__hash__


def test_ten_thousand_cells_are_read_and_each_is_found_at_once(stub, sets, capsys):
    """A look-up compares its key with one other or two, not with ten thousand."""
    from oodkit.bench.rows import read_cells
    from oodkit.bench.store import RunFolder

    job = "bench --no-baseline --detector brightness --id id.npz --ood mixed.npz --resize --run-folder run".split()
    assert main(job) == 0
    results = sets / "run" / "results.jsonl"
    (cell,), _ = read_cells(results.read_bytes())
    row = {k: v for k, v in json.loads(results.read_text()).items() if k != "check"}
    rows = [json.dumps({**row, "key": f"{i:032x}", "seed": 1000 + i}) for i in range(10_000)]
    results.write_text(results.read_text() + "\n".join(rows) + "\n")
    with RunFolder(sets / "run") as folder:
        assert folder.cell(cell.key) == cell
        CountedKey.compared = 0
        for i in range(10_000):
            assert folder.cell(CountedKey(f"{i:032x}")).seed == 1000 + i
        assert CountedKey.compared < 50_000
    capsys.readouterr()
    assert main(job) == 0
    assert "0 cells made now, 1 found" in capsys.readouterr().out


MEMORY = """
import resource, sys, torch, oodkit
from oodkit.loading import load_images
images = load_images("digits", limit=100, image_shape=(1, 32, 32)).images
model = oodkit.create_model("vae", (1, 32, 32), device="cpu", width=1, latent=2)
detector = oodkit.create_detector("elbo", model, batch_size=256).fit(images)
peaks = []
for count in (int(sys.argv[1]) // 10, int(sys.argv[1])):
    many = images[torch.arange(count) % 100]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    detector.score(many)
    peaks.append((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
print(*(f"{peak:.0f}" for peak in peaks))
"""


@pytest.mark.long
def test_memory_does_not_grow_with_the_number_of_images():
    """Scoring 50,000 images takes hardly more, beside the images themselves, than 5,000 took."""
    # What is freed goes back at once: what glibc would keep differs from run to run by more than the bound.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, "50000"],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
    )
    _, grown = map(int, done.stdout.split())
    assert grown < 32, "MiB, of ten times the images"
