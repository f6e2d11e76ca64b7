"""What the detectors of a grid share: each answer is that of the model, and is made once."""

import copy
import gc
from dataclasses import asdict

import pytest
import torch
from torch import nn

from oodkit import GenerativeModel, ModelOptions, backward_pass, log_likelihood, train_model
from oodkit.bench.memory import Memory
from oodkit.bench.runner import run_bench
from oodkit.bench.sets import Sets
from oodkit.bench.spec import read_spec
from oodkit.bench.work import SeedWork
from oodkit.loading import load_images

pytest_plugins = ["bench_fixtures"]


class Counting(GenerativeModel):
    """A density that counts how often it is asked."""

    def __init__(self):
        super().__init__((1, 2, 2), ModelOptions())
        self.layer = nn.Linear(4, 3)
        self.asked = 0

    def log_prob(self, images):
        self.asked += 1
        return -self.layer(images.to(self.dtype).flatten(1) / 255).square().sum(1)

    def log_likelihood(self, images, *, samples=20, seed=0):
        return self.log_prob(images).detach() + samples + seed / 10


def pictures(seed):
    return torch.randint(256, (5, 1, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("limit", [0, 2**20])
def test_the_same_question_is_answered_once_and_another_anew(limit):
    model, a, b = Counting(), pictures(0), pictures(1)
    memory = Memory(model, limit)
    for images, samples, seed in ((a, 2, 0), (b, 2, 0), (a, 3, 0), (a, 2, 1)) * 2:
        expected = Counting.log_likelihood(model, images, samples=samples, seed=seed)
        model.asked -= 1
        torch.testing.assert_close(log_likelihood(model, images.clone(), samples=samples, seed=seed), expected)
    assert model.asked == (4 if limit else 8)
    assert (memory.spared > 0) == bool(limit)


def test_gradients_are_shared_by_those_who_ask_for_the_same_layers():
    model, images = Counting(), pictures(0)
    Memory(model)
    first = backward_pass(model, images)
    assert backward_pass(model, images.clone(), ["layer"]) is first
    assert model.asked == 1
    described = backward_pass(model, images, statistics=True)
    torch.testing.assert_close(described.statistics["log_prob"], first.log_prob)
    torch.testing.assert_close(described.gradients["layer"].dense(), first.gradients["layer"].dense())


@pytest.mark.parametrize("copied", [False, True])
def test_changed_weights_are_asked_again(copied):
    model, images = Counting(), pictures(0)
    Memory(model)
    log_likelihood(model, images, samples=1, seed=0)
    other = copy.deepcopy(model) if copied else model
    with torch.no_grad():
        other.layer.weight.mul_(2)
    expected = Counting.log_likelihood(other, images, samples=1, seed=0)
    torch.testing.assert_close(log_likelihood(other, images, samples=1, seed=0), expected)


def test_in_one_grid_or_alone_the_rows_are_the_same(sets):
    detectors = ["nll", "ic-png", "rose-diag", "rose-ekfac", "rose-plus", "score-test"]

    def rows(folder, detectors):
        fields = {"model": "vae", "id": "id.npz", "ood": "bright.npz,mixed.npz", "epochs": 1}
        spec = read_spec(
            baseline=False, detectors=detectors, run_folder=folder, options={"vae": {"width": 4, "latent": 4}}, **fields
        )
        return [
            {k: v for k, v in asdict(cell).items() if k not in ("date", "images_per_second")}
            for cell in run_bench(spec).cells
        ]

    together = rows(sets / "all", detectors)
    assert len(together) == 3 * len(detectors)
    assert together == [row for name in detectors for row in rows(sets / name, [name])]


def test_a_run_holds_the_images_and_the_answers_of_one_seed_at_a_time(stub, sets):
    counts = []

    def count(text):
        held = [type(one) for one in gc.get_objects() if type(one) in (Sets, Memory, SeedWork)]
        counts.append({kind: held.count(kind) for kind in held})

    fields = {"id": "id.npz", "ood": "bright.npz", "model": "flat", "epochs": 1, "train_limit": 20, "limit": 5}
    gc.collect()
    gc.disable()  # what is dropped goes at once, or else stays
    try:
        result = run_bench(read_spec(**fields, baseline=False, detectors="elbo,nll", seeds="0,1,2"), count)
        count("at the end")
    finally:
        gc.enable()
    assert len(result.cells) == 6
    assert max(of.get(kind, 0) for of in counts for kind in (Sets, Memory, SeedWork)) == 1
    assert counts[-1] == {}


def test_a_model_that_was_given_remembers_nothing_after_a_run(stub, sets):
    train_model("flat", load_images("id.npz", image_shape=(1, 32, 32)), epochs=0).save(sets / "flat.oodkit")
    models = []

    def find(text):
        models.extend(one for one in gc.get_objects() if issubclass(type(one), GenerativeModel) and one.recall)

    run_bench(read_spec(id="id.npz", ood="bright.npz", model="flat.oodkit", detectors="elbo", limit=5), find)
    assert models and all(model.recall is None for model in models)
