"""Random network distillation: fixed targets, what training does, and the same scores after a kill or on loading."""

import math

import pytest
import torch
from torch import nn

import oodkit
from oodkit.bench.metrics import auroc
from oodkit.perturbations import perturb
from oodkit_svd_rnd.networks import Distillation, FeatureNetwork, PredictionError

STRENGTHS = {"rnd-svd": 5, "rnd-dct": 6, "rnd-gaussian-blur": 0.8, "rnd-random": 0.3}  # for images of 8x8
STAGES = [(4, 0, 1), (6, 2, 2)]


def strokes(count, seed=0, channels=1):
    """Return bright horizontal bars on a dark ground, uint8 (count, channels, 8, 8)."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 20, (count, channels, 8, 8), generator=generator)
    rows = torch.randint(0, 8, (count,), generator=generator)
    images[torch.arange(count), :, rows] += 200
    return images.to(torch.uint8)


def fitted(name, images, **options):
    settings = {"strength": STRENGTHS[name], "epochs": 2, **options}
    return oodkit.create_detector(name, device="cpu", **settings).fit(images)


def weights(detector, part):
    return {key: value for key, value in detector.state.items() if key.startswith(f"error.{part}.")}


def test_svd_rnd_is_its_name_in_the_literature():
    assert oodkit.create_detector("svd-rnd", device="cpu").name == "rnd-svd"


def test_targets_come_from_the_seed_and_are_not_trained():
    images = strokes(70)
    trained, untrained = fitted("rnd-svd", images), fitted("rnd-svd", images, epochs=0)
    other = fitted("rnd-svd", images, epochs=0, seed=1)
    for key, value in weights(trained, "target").items():
        assert torch.equal(value, untrained.state[key])
        assert not torch.equal(value, other.state[key])
    moved = [k for k, v in weights(trained, "predictor").items() if not torch.equal(v, untrained.state[k])]
    assert len(moved) == len(weights(trained, "predictor"))
    assert torch.equal(trained.score(images), fitted("rnd-svd", images).score(images))


def test_a_random_network_is_one_whose_batch_norm_never_saw_a_batch():
    torch.manual_seed(0)
    bare = FeatureNetwork(2, STAGES, normalised=False)
    with_norms = FeatureNetwork(2, STAGES, normalised=True).eval()
    convolutions = [[m for m in net.modules() if isinstance(m, nn.Conv2d)] for net in (bare, with_norms)]
    for plain, normalised in zip(*convolutions, strict=True):
        normalised.load_state_dict(plain.state_dict())
    x = torch.randn(3, 2, 9, 7)
    torch.testing.assert_close(bare(x), with_norms(x), rtol=1e-4, atol=1e-5)  # but for batch norm's own 1e-5


def test_loss_is_the_mean_of_both_errors():
    torch.manual_seed(0)
    error = PredictionError(torch.full((3, 1, 1), 90.0), torch.full((3, 1, 1), 40.0), STAGES, [*STAGES, (6, 1, 1)])
    distillation = Distillation(error, STAGES).double().eval()
    plain, twin = strokes(5, channels=3), strokes(5, seed=1, channels=3)
    expected = 0.0
    for image, perturbed in zip(plain.double(), twin.double(), strict=True):
        for x, target in ((image, error.target), (perturbed, distillation.target_of_perturbed)):
            x = (x[None] - 90) / 40
            expected += (error.predictor(x) - target(x)).square().sum().item() / 10
    found = distillation.loss(torch.cat([plain, twin], 1), torch.Generator())
    assert found.item() == pytest.approx(expected, rel=1e-6)
    assert all(p.grad is None for p in error.target.parameters())


@pytest.mark.parametrize("name", STRENGTHS)
def test_training_pairs_are_images_and_their_perturbed_twins(name, monkeypatch):
    seen = []
    monkeypatch.setattr("oodkit_svd_rnd.detector.optimise", lambda module, pairs, *_, **__: seen.append(pairs.images))
    images = strokes(70, channels=3)
    fitted(name, images, seed=3)
    twins = perturb(images, name.removeprefix("rnd-"), torch.Generator().manual_seed(3), STRENGTHS[name])
    assert torch.equal(seen[0], torch.cat([images, twins], 1))


def test_images_are_standardised_by_the_training_images():
    images = strokes(40, channels=3)
    images[:, 2] = 7  # no deviation at all
    state = fitted("rnd-gaussian-blur", images, epochs=0).state
    values = images.double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(state["error.mean"].flatten(), values.mean(1).float())
    expected = values.std(1, correction=0).clamp_min(1).float()
    torch.testing.assert_close(state["error.deviation"].flatten(), expected)


@pytest.mark.parametrize("name", STRENGTHS)
def test_foreign_images_score_higher(name):
    detector = fitted(name, strokes(512), epochs=20, learning_rate=1e-3)
    known = detector.score(strokes(64, seed=1))
    generator = torch.Generator().manual_seed(1)
    noise = torch.randint(0, 256, (64, 1, 8, 8), generator=generator, dtype=torch.uint8)
    assert auroc(known, detector.score(noise)) > 0.95
    assert auroc(known, detector.score(255 - strokes(64, seed=1))) > 0.95
    if name == "rnd-random":  # on so few bars, the others change too little to be told apart so soon
        twins = perturb(strokes(64, seed=1), name.removeprefix("rnd-"), generator, STRENGTHS[name])
        assert auroc(known, detector.score(twins)) > 0.9


def test_architecture_fits_the_device_and_travels_with_the_detector(tmp_path):
    images = strokes(4)
    automatic, paper = fitted("rnd-svd", images, epochs=0), fitted("rnd-svd", images, epochs=0, architecture="paper")
    assert automatic.state.keys() == fitted("rnd-svd", images, epochs=0, architecture="small").state.keys()
    count = sum(weight.numel() for weight in weights(paper, "predictor").values())
    assert 42e6 < count < 44e6  # two stages of 1024 and 512 on a ResNet-34 of 21 million
    paper.save(tmp_path / "paper.oodkit")
    loaded = oodkit.load_detector(tmp_path / "paper.oodkit", device="cpu")
    assert torch.equal(loaded.score(images), paper.score(images))


def test_fitting_again_replaces_the_networks():
    images, others = strokes(20), 255 - strokes(20)
    detector = fitted("rnd-svd", images)
    detector.score(images)
    assert torch.equal(detector.fit(others).score(images), fitted("rnd-svd", others).score(images))


def test_killed_training_resumes_to_the_same_scores(tmp_path, monkeypatch):
    images = strokes(130)
    whole = fitted("rnd-random", images, epochs=4).score(images)
    detector = oodkit.create_detector("rnd-random", device="cpu", epochs=4, strength=0.3)
    detector.work_folder = tmp_path
    loss, calls = Distillation.loss, []

    def killed(self, *arguments):
        calls.append(len(calls))
        if len(calls) == 8:  # in the third epoch of three steps each
            raise KeyboardInterrupt
        return loss(self, *arguments)

    monkeypatch.setattr(Distillation, "loss", killed)
    with pytest.raises(KeyboardInterrupt):
        detector.fit(images)
    assert list(tmp_path.iterdir())
    resumed = detector.fit(images).score(images)
    assert len(calls) == 8 + 6  # the third epoch anew, and the fourth
    assert torch.equal(resumed, whole)


def test_learning_rate_is_a_tenth_from_epoch_25(monkeypatch):
    rates = []
    step = torch.optim.Adam.step

    def watched(self, *arguments):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    fitted("rnd-svd", strokes(2), epochs=27)
    assert rates == [pytest.approx(1e-4)] * 25 + [pytest.approx(1e-5)] * 2


def test_fitting_images_limits_the_training():
    images = strokes(9)
    state = fitted("rnd-svd", images, epochs=0, fitting_images=3).state
    drawn = oodkit.ImageSet("strokes", "train", images).sample(3, 0).images
    assert float(state["error.mean"]) == pytest.approx(float(drawn.double().mean()))


def test_what_the_perturbation_cannot_do_is_said():
    with pytest.raises(oodkit.OptionError, match="drop is 28"):
        oodkit.create_detector("rnd-svd", device="cpu").fit(strokes(4))
    with pytest.raises(oodkit.OptionError, match=r"rnd-random\.strength"):
        oodkit.create_detector("rnd-random", device="cpu", strength=1.5)
    assert math.isfinite(float(fitted("rnd-svd", strokes(1)).score(strokes(1))))
