"""Classifiers: trained with labels, or refused; ROSE on them, layer by layer, against loops of autograd."""

import json

import numpy as np
import pytest
import torch

from oodkit import (
    Classifier,
    ImageError,
    ImageSet,
    OptionError,
    PluginError,
    create_detector,
    create_model,
    fit_curvature,
    layer_gradients,
    load_images,
    load_model,
    train_model,
)
from oodkit.bench.metrics import auroc
from oodkit.cli import main
from oodkit.registry import registry
from oodkit.testing import blobs, model_checks, noise

NETWORKS = ["cnn", "vgg11", "vgg13", "vgg16", "vgg19", "resnet18"]
CONVOLUTIONS = {"cnn": 3, "vgg11": 8, "vgg13": 10, "vgg16": 13, "vgg19": 16, "resnet18": 17 + 3}  # 3 shortcuts


def classifier(network="cnn", shape=(1, 32, 32), **options) -> Classifier:
    """Return an untrained classifier in float64, in evaluation mode."""
    return create_model("classifier", shape, device="cpu", network=network, width=2, **options).double().eval()


def random_images(count, shape=(1, 32, 32)):
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def trained() -> Classifier:
    return train_model("classifier", blobs(256), width=8, classes=2, batch_size=16, epochs=10, device="cpu")


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(check, id=f"{network}-{check.__name__}")
        for network in ("cnn", "resnet18")
        for check in model_checks("classifier", network=network, width=2, classes=2)
    ],
)
def test_conforms(check):
    check()


# --- what it is ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", NETWORKS)
def test_log_prob_is_that_of_its_own_answer(network):
    model, images = classifier(network, (3, 32, 32), classes=4), random_images(5, (3, 32, 32))
    with torch.no_grad():
        odds = model.logits(images).exp()
        shares = odds / odds.sum(1, keepdim=True)  # (N, 4)
        for n, answer in enumerate(model.predict(images).tolist()):
            assert shares[n, answer] == shares[n].max()
            torch.testing.assert_close(model.log_prob(images)[n], shares[n, answer].log())
    torch.testing.assert_close(model.statistics(images)["entropy"], -(shares * shares.log()).sum(1))


@pytest.mark.parametrize("network", NETWORKS)
def test_gradients_are_those_of_autograd_one_image_at_a_time(network):
    model, images = classifier(network), random_images(3)
    layers = model.curvature_layers()
    assert len(layers) == CONVOLUTIONS[network] + (2 if network == "cnn" else 1)
    fast = layer_gradients(model, images)
    for n in range(len(images)):
        model.zero_grad()
        model.log_prob(images[n : n + 1]).backward()
        for name in layers:
            layer = model.get_submodule(name)
            slow = layer.weight.grad.flatten(1)
            if layer.bias is not None:
                slow = torch.cat([slow, layer.bias.grad[:, None]], 1)
            torch.testing.assert_close(fast[name].dense()[n], slow, msg=name)


def test_images_that_would_vanish_are_refused():
    with pytest.raises(ImageError, match="32x32 at least, not 28x28"):
        create_model("classifier", (1, 28, 28), network="vgg11", device="cpu")
    assert create_model("classifier", (1, 28, 28), network="cnn", device="cpu").log_prob(random_images(1, (1, 28, 28)))


# --- training -----------------------------------------------------------------------------------------------


def test_it_learns_the_labels(trained):
    test = blobs(100, seed=9)
    assert test.labels.float().mean() == pytest.approx(0.5, abs=0.15)
    with torch.no_grad():
        assert (trained.predict(test.images) == test.labels).double().mean() > 0.8  # chance: 0.5
    losses = trained.training_record["losses"]
    assert losses[-1] < 0.5 * np.log(2) and "bits_per_dimension" not in trained.training_record


def test_labels_stay_with_their_images_when_some_are_drawn(trained):
    drawn = blobs(256, seed=9).sample(60, seed=3)
    with torch.no_grad():
        assert (trained.predict(drawn.images) == drawn.labels).double().mean() > 0.8  # chance: 0.5


def test_other_labels_make_another_model():
    images = blobs(64)
    swapped = ImageSet(images.name, images.split, images.images, 1 - images.labels)
    assert swapped.hash == images.hash and swapped.labels_hash != images.labels_hash
    a, b = (train_model("classifier", i, width=2, classes=2, epochs=2, device="cpu") for i in (images, swapped))
    assert not torch.equal(a.log_prob(images.images), b.log_prob(images.images))


def test_a_checkpoint_of_other_labels_is_not_gone_on_with(tmp_path):
    images, file = blobs(64), tmp_path / "checkpoint"
    swapped = ImageSet(images.name, images.split, images.images, 1 - images.labels)
    settings = {"width": 2, "classes": 2, "epochs": 2, "device": "cpu"}
    train_model("classifier", images, checkpoint=file, **settings)
    resumed = train_model("classifier", swapped, checkpoint=file, **settings)
    straight = train_model("classifier", swapped, **settings)
    assert torch.equal(resumed.log_prob(images.images), straight.log_prob(images.images))


def test_saved_and_loaded_it_is_a_classifier(trained, tmp_path):
    trained.save(tmp_path / "model.oodkit")
    again = load_model(tmp_path / "model.oodkit", device="cpu")
    assert isinstance(again, Classifier)
    assert torch.equal(again.predict(blobs(8).images), trained.predict(blobs(8).images))


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        (None, "classifier is trained with labels, and blobs has none"),
        (torch.arange(8), r"blobs has labels 0\.\.7, and classifier has classes 0\.\.4.*set classifier.classes=8"),
        (torch.arange(8) - 4, r"blobs has labels -4\.\.3"),
        (torch.ones(8, 1), r"8 images but labels of shape \(8, 1\) and type torch.float32"),
    ],
    ids=["none", "too many", "negative", "not numbers"],
)
def test_images_that_it_cannot_be_trained_on_are_refused(labels, complaint):
    images = ImageSet("blobs", "train", blobs(8).images, labels)
    with pytest.raises(ImageError, match=complaint):
        train_model("classifier", images, classes=5, epochs=1, device="cpu")


# --- detectors ----------------------------------------------------------------------------------------------

MODEL = {name: entry.spec.model for name, entry in registry().detectors.items()}


def test_rose_finds_noise(trained):
    detector = create_detector("rose-diag", trained).fit(blobs(200, seed=1))
    assert auroc(detector.score(blobs(60, seed=2)), detector.score(noise(60))) > 0.95


def test_rose_runs_on_each_layer_by_itself(trained):
    for layer in trained.curvature_layers():
        detector = create_detector("rose-diag", trained, layers=[layer]).fit(blobs(60, seed=1))
        assert detector.score(blobs(4, seed=2)).isfinite().all()
        assert {key.split("/")[0] for key in detector.state if "/" in key} == {layer}


def test_rose_with_one_layer_ranks_as_that_layers_quadratic_form(trained):
    # What benchmarks/classifier_layers.py relies on: one fit of all layers tells what each would do alone.
    layers, known, test = trained.curvature_layers(), blobs(60, seed=1), blobs(20, seed=2)
    everything = create_detector("rose-diag", trained)
    approximations = {layer: everything.curvature(everything.options) for layer in layers}
    fit_curvature(trained, known, approximations, batch_size=16)
    gradients = layer_gradients(trained, test.images, layers)
    for layer in layers:
        alone = create_detector("rose-diag", trained, layers=[layer], calibration="same").fit(known)
        order = approximations[layer].quadratic_form(gradients[layer]).argsort()
        assert torch.equal(alone.score(test).argsort(), order), layer


@pytest.mark.parametrize("name", [n for n, needs in MODEL.items() if needs == "density"])
def test_a_detector_that_compares_densities_refuses_it(name, trained):
    with pytest.raises(PluginError, match=f"{name} needs a density of images such as vae or glow; classifier is"):
        create_detector(name, trained)


@pytest.mark.parametrize("name", [n for n, needs in MODEL.items() if needs == "latent-variable"])
def test_a_detector_that_needs_an_encoder_refuses_it(name, trained):
    with pytest.raises(PluginError, match=f"{name} needs a latent-variable model such as vae; classifier has no"):
        create_detector(name, trained)


# --- the benchmark ------------------------------------------------------------------------------------------

BENCH = "bench --no-baseline --model classifier --ood noise --limit 20 --train-limit 80 --epochs 1".split()


def test_bench_trains_and_scores(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = [*BENCH, "--set", "classifier.width=4", "--detector", "rose-diag,nll", "--json"]
    assert main(arguments) == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    assert {(c["detector"], c["ood"]) for c in cells} == {("rose-diag", "noise"), ("nll", "noise")}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--id", "unlabelled.npz", "--detector", "rose-diag"], "trained with labels, and unlabelled.npz has none"),
        (["--detector", "rose-diag", "--set", "classifier.classes=4"], "digits has labels 0..9"),
        (["--detector", "ic-png"], "ic-png needs a density model"),
        (["--detector", "lr-e"], "lr-e needs a latent-variable model"),
    ],
)
def test_bench_refuses_before_any_work(arguments, complaint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.savez("unlabelled.npz", images=random_images(40).numpy())
    assert main([*BENCH, *arguments]) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_training_images_of_a_labelled_npz_are_learnt_from(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    digits = load_images("digits", "train", limit=60)
    np.savez("mine.npz", images=digits.images[:, 0].numpy(), labels=digits.labels.numpy())
    assert main(["train", "--model", "classifier", "--id", "mine.npz", "--epochs", "1", "--out", "model.oodkit"]) == 0
    assert "cross-entropy" in capsys.readouterr().err
    assert load_model("model.oodkit", device="cpu").training_record["labels"]


def test_an_unknown_network_is_refused():
    with pytest.raises(OptionError, match="network = 'alexnet'"):
        create_model("classifier", (1, 32, 32), network="alexnet", device="cpu")
