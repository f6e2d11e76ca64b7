"""Models of other people: a zuko flow, a VAE, a denoising U-Net, an autoencoder; layers; the command line."""

import json

import numpy as np
import pytest
import torch
import zuko
from safetensors.torch import save_file
from torch import nn

import oodkit
from oodkit.cli import main
from oodkit.testing import assert_same, blobs, noise

SHAPE = (1, 8, 8)


def small(images):
    return oodkit.load_images(images, image_shape=SHAPE)


TRAIN, KNOWN, UNKNOWN = small(blobs(120)), small(blobs(12, seed=3)), small(noise(12))


# --- four kinds of modules, as their users write them -------------------------------------------------------


def flow():
    """A zuko flow: a lazy distribution, masked layers."""
    return zuko.flows.MAF(64, transforms=2, hidden_features=(32,))


class Vae(nn.Module):
    """As in many tutorials: `forward` returns the reconstruction, mean and log-variance."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten())
        self.mean, self.log_variance = nn.Linear(128, 4), nn.Linear(128, 4)
        self.decoder = nn.Sequential(nn.Linear(4, 64), nn.Sigmoid())

    def forward(self, x):
        h = self.encoder(x)
        mean, log_variance = self.mean(h), self.log_variance(h)
        return self.decoder(mean).view_as(x), mean, log_variance


def elbo(module, x):
    reconstruction, mean, log_variance = module(x)
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
    return -nn.functional.binary_cross_entropy(reconstruction, x, reduction="none").sum((1, 2, 3)) - kl


class UNet(nn.Module):
    """Guesses the noise in an image at a time step, as diffusers' UNet2DModel does, with group norm and a skip."""

    def __init__(self):
        super().__init__()
        self.time = nn.Linear(1, 8)
        self.enter, self.down = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.up, self.leave = nn.ConvTranspose2d(8, 8, 4, stride=2, padding=1), nn.Conv2d(16, 1, 3, padding=1)

    def forward(self, sample, timestep):
        x = self.enter(sample) + self.time(timestep[:, None])[:, :, None, None]
        y = self.up(torch.relu(self.norm(self.down(torch.relu(x)))))
        return self.leave(torch.cat([x, y], 1))


def denoising(module, x):
    """Minus the denoising loss at a few times, the noise one tensor for all images."""
    generator = torch.Generator().manual_seed(0)
    losses = []
    for t in (0.2, 0.5, 0.8):
        eps = torch.randn(1, *x.shape[1:], generator=generator).to(x)
        guess = module((1 - t) ** 0.5 * x + t**0.5 * eps, x.new_full((len(x),), t))
        losses.append((guess - eps).square().mean((1, 2, 3)))
    return -torch.stack(losses).sum(0)


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode, self.decode = nn.Linear(64, 6), nn.Linear(6, 64)

    def minus_error(self, x):
        x = x.flatten(1)
        return -(self.decode(torch.tanh(self.encode(x))) - x).square().sum(1)


def adapted(kind):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "flow":
            return oodkit.adapt(flow(), log_prob=lambda f, x: f().log_prob(x.flatten(1)), image_shape=SHAPE)
        if kind == "vae":
            return oodkit.adapt(Vae(), log_prob=elbo, image_shape=SHAPE, layers=["encoder.*", "mean", "log_variance"])
        if kind == "unet":
            return oodkit.adapt(UNet(), log_prob=denoising, image_shape=SHAPE, layers=nn.Conv2d, pixels="symmetric")
        return oodkit.adapt(Autoencoder(), log_prob="minus_error", image_shape=SHAPE)


@pytest.fixture(scope="module", params=["flow", "vae", "unet", "autoencoder"])
def model(request):
    return oodkit.train_model(adapted(request.param), TRAIN, epochs=12, learning_rate=3e-3)


@pytest.mark.parametrize("name", ["rose-ekfac", "elbo"])
def test_a_model_of_any_kind_tells_noise_from_its_own(model, name, tmp_path):
    detector = oodkit.create_detector(name, model).fit(TRAIN)
    known, unknown = detector.score(KNOWN), detector.score(UNKNOWN)
    # The U-Net is small and trained for seconds: its denoising loss alone tells less (0.78) than ROSE makes of it.
    assert float((unknown[:, None] > known[None]).double().mean()) > (0.7 if name == "elbo" else 0.9)
    alone = torch.cat([detector.score(image[None]) for image in KNOWN.images])
    assert_same(alone, known, "alone")

    detector.save(tmp_path / "detector.oodkit")
    with pytest.raises(oodkit.ArtifactError, match="model of your own"):
        oodkit.load_detector(tmp_path / "detector.oodkit")
    again = oodkit.load_detector(tmp_path / "detector.oodkit", model=model.fresh(seed=5))
    assert_same(again.score(KNOWN), known, "saved and loaded")


def test_the_gradients_are_those_of_autograd(model):
    """A masked layer's gradient, for one, is zero where its mask is: it cannot be taken from its inputs and outputs."""
    layers = model.curvature_layers()
    assert layers
    images = KNOWN.images[:3]
    fast = oodkit.layer_gradients(model, images, layers)
    for name, gradient in fast.items():
        parameters = dict(model.named_parameters())
        whole = [parameters[name]] if name in parameters else list(model.get_submodule(name).parameters(recurse=False))
        for i in range(3):
            expected = torch.autograd.grad(model.log_prob(images[i : i + 1]).sum(), whole)
            norm = sum(g.double().square().sum() for g in expected)
            torch.testing.assert_close(gradient.dense()[i].double().square().sum(), norm, rtol=1e-3, atol=1e-6)


def test_parameters_of_a_model_that_draws_noise_have_the_gradients_of_autograd():
    model = oodkit.adapt(UNet(), log_prob=denoising, image_shape=SHAPE, layers="norm.*")
    images = KNOWN.images[:3]
    for name, gradient in oodkit.layer_gradients(model, images).items():
        for i in range(3):
            (expected,) = torch.autograd.grad(model.log_prob(images[i : i + 1]).sum(), model.get_parameter(name))
            torch.testing.assert_close(gradient.dense()[i].flatten(), expected, rtol=1e-4, atol=1e-5)


# --- latent variables ---------------------------------------------------------------------------------------


def latent_vae():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return oodkit.adapt(
            Vae(),
            encode=lambda vae, x: (vae.mean(h := vae.encoder(x)), vae.log_variance(h)),
            log_prob_given=lambda vae, x, z: (
                -nn.functional.binary_cross_entropy(vae.decoder(z).view_as(x), x, reduction="none").sum((1, 2, 3))
            ),
            image_shape=SHAPE,
            layers=["mean", "log_variance"],
        )


def test_with_encode_and_log_prob_given_it_is_a_latent_variable_model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        whole = oodkit.adapt(Vae(), log_prob=elbo, image_shape=SHAPE)
    torch.testing.assert_close(latent_vae().log_prob(KNOWN.images), whole.log_prob(KNOWN.images))


def with_decode(decode, pixels="unit"):
    scale = 255 if pixels == "bytes" else 1
    return oodkit.adapt(
        Vae(),
        encode=lambda vae, x: (vae.mean(h := vae.encoder(x / scale)), vae.log_variance(h)),
        log_prob_given=lambda vae, x, z: -(vae.decoder(z).view_as(x) - x / scale).square().sum((1, 2, 3)),
        decode=decode,
        pixels=pixels,
        image_shape=SHAPE,
    )


@pytest.mark.parametrize(
    ("pixels", "values"), [("unit", [0.0, 0.5, 1.2]), ("symmetric", [-1.0, 0.0, 1.4]), ("bytes", [0.0, 128.0, 300.0])]
)
def test_with_decode_it_shows_reconstructions_in_the_range_of_its_pixels(pixels, values):
    row = torch.tensor(values).repeat(22)[:64].view(1, *SHAPE)
    model = with_decode(lambda vae, z: row.expand(len(z), -1, -1, -1), pixels)
    expected = torch.tensor([0, 128, 255], dtype=torch.uint8).repeat(22)[:64].view(1, *SHAPE)
    assert torch.equal(model.reconstruct(KNOWN.images[:3]), expected.expand(3, -1, -1, -1))


def test_decode_is_a_function_of_z_alone():
    model = with_decode(lambda vae, z: vae.decoder(z).view(-1, *SHAPE))
    mean, _ = model.encode(KNOWN.images)
    exact = model.module.decoder(mean).view(-1, *SHAPE)
    assert (model.reconstruct(KNOWN.images) / 255 - exact).abs().max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize(
    ("decode", "says"),
    [
        (lambda vae, z: vae.decoder(z), r"decode gave \(2, 64\) for z of 2; it must return \(2, 1, 8, 8\)"),
        (lambda vae, z: vae.decoder(z[:, :1]), "decode failed on two z: RuntimeError"),
    ],
)
def test_a_decode_that_gives_no_images_is_refused_at_once(decode, says):
    with pytest.raises(oodkit.PluginError, match=says):
        with_decode(decode)


def test_without_decode_a_reconstruction_says_what_to_give():
    with pytest.raises(oodkit.PluginError, match=r"adapted without decode; give adapt\(…, decode=…\)"):
        latent_vae().reconstruct(KNOWN.images)


@pytest.mark.parametrize(("name", "options"), [("lr-z", {"steps": 3}), ("lr-e", {"steps": 2}), ("nll", {})])
def test_detectors_of_latent_variables_can_use_it(name, options, tmp_path):
    model = oodkit.train_model(latent_vae(), TRAIN, epochs=2)
    detector = oodkit.create_detector(name, model, **options).fit(TRAIN)
    scores = detector.score(KNOWN)
    assert_same(torch.cat([detector.score(image[None]) for image in KNOWN.images]), scores, "alone")
    detector.save(tmp_path / "detector.oodkit")
    again = oodkit.load_detector(tmp_path / "detector.oodkit", model=latent_vae())
    assert_same(again.score(KNOWN), scores, "saved and loaded")


# --- layers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (None, {"time", "enter", "down", "up", "leave"}),
        ("e*", {"enter"}),
        (["*e", nn.ConvTranspose2d], {"time", "leave", "up"}),
        (nn.Linear, {"time"}),
        ("norm.weight", {"norm.weight"}),
    ],
)
def test_layers_by_pattern_type_and_list(layers, expected):
    model = oodkit.adapt(UNet(), log_prob=denoising, image_shape=SHAPE, layers=layers)
    assert {name.removeprefix("module.") for name in model.curvature_layers()} == expected


@pytest.mark.parametrize("names", ["e*", ["*e", "down"], "norm.weight", "norm.*", "module.e*", "module.norm.*"])
def test_rose_takes_the_names_that_adapt_takes(names):
    model = oodkit.adapt(UNet(), log_prob=denoising, image_shape=SHAPE)
    chosen = oodkit.adapt(UNet(), log_prob=denoising, image_shape=SHAPE, layers=names).curvature_layers()
    rose = oodkit.create_detector("rose-diag", model, layers=[names] if isinstance(names, str) else names).fit(TRAIN)
    assert list(rose.explain(KNOWN).names) == chosen == model.matching_layers(names)


def test_a_pattern_is_of_the_names_in_the_user_s_module():
    model = oodkit.adapt(UNet(), log_prob=denoising, image_shape=SHAPE)
    with pytest.raises(oodkit.OptionError, match=r"called 'mo\*'; .* are: time, enter, down, up, leave\."):
        model.matching_layers("mo*")  # all are in "module."
    wrapped = oodkit.adapt(
        nn.ModuleDict({"module": nn.Sequential(nn.Linear(64, 2)), "x[0]": nn.Linear(64, 3)}),
        log_prob=lambda m, x: -sum(layer(x.flatten(1)).square().sum(1) for layer in m.values()),
        image_shape=SHAPE,
    )
    assert wrapped.matching_layers("module.0") == wrapped.matching_layers("module.module.0") == ["module.module.0"]
    assert wrapped.matching_layers("x[0]") == ["module.x[0]"]


def test_a_masked_layer_is_taken_by_its_parameters():
    model = adapted("flow")
    layers = model.curvature_layers()
    assert layers and all(name.endswith((".weight", ".bias")) for name in layers)
    assert model.matching_layers("*") == layers


def test_parameters_alone_are_taken_where_there_is_no_layer():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.shift = nn.Parameter(torch.ones(64)), nn.Parameter(torch.zeros(64))

    model = oodkit.adapt(
        Scale(), log_prob=lambda m, x: -(m.scale * x.flatten(1) + m.shift).square().sum(1), image_shape=SHAPE
    )
    assert model.curvature_layers() == ["module.scale", "module.shift"]
    assert oodkit.create_detector("rose-diag", model).fit(TRAIN).score(KNOWN).isfinite().all()


# --- mistakes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"log_prob": "likelihood"}, oodkit.OptionError, "has no method 'likelihood'"),
        ({"log_prob": lambda m, x: m(x)}, oodkit.PluginError, "log_prob failed"),
        ({"log_prob": lambda m, x: m.minus_error(x).mean()}, oodkit.PluginError, r"gave \(\) for two images"),
        ({"log_prob": lambda m, x: m.minus_error(x + torch.rand_like(x))}, oodkit.PluginError, "other numbers"),
        (
            {"log_prob": lambda m, x: m.minus_error(x) - m.minus_error(x).mean()},
            oodkit.PluginError,
            "depends on its neighbours",
        ),
        ({"log_prob": lambda m, x: (m.minus_error(x) * 0 - 1).log()}, oodkit.PluginError, "not finite"),
        (
            {"layers": "convolution*"},
            oodkit.OptionError,
            "no layer or parameter is called 'convolution\\*'.*encode, decode",
        ),
        ({"layers": nn.Conv2d}, oodkit.OptionError, "no layer is a Conv2d"),
        ({"pixels": "float"}, oodkit.OptionError, '"unit"'),
        ({"image_shape": (8, 8)}, oodkit.OptionError, "channels, height, width"),
        ({"image_shape": (1, 9, 9)}, oodkit.PluginError, "1x9x9"),
    ],
)
def test_what_cannot_work_is_said_at_once(changes, error, said):
    with pytest.raises(error, match=said):
        oodkit.adapt(Autoencoder(), **{"log_prob": "minus_error", "image_shape": SHAPE, **changes})


class Sequence(nn.Module):
    """Rows of pixels one after the other: as torch's recurrent layers and attention have them, (rows, N, columns)."""

    def __init__(self, rows=8):
        super().__init__()
        self.rows, self.layer = rows, nn.Linear(64 // rows, 3)

    def transposed(self, x):
        x = x.reshape(len(x), self.rows, -1).transpose(0, 1)  # (rows, N, columns)
        return -self.layer(x).square().sum((0, 2))

    def shared(self, x):
        return -(x.sum((1, 2, 3)) - self.layer(x.new_ones(self.rows, 64 // self.rows)).sum()).square()

    def reversed(self, x):
        x = x.reshape(len(x), self.rows, -1).flip(0)
        return -self.layer(x).square().sum((1, 2)).flip(0)


@pytest.mark.parametrize("rows", [1, 2, 8])
def test_a_layer_whose_first_axis_is_not_the_images_is_refused_at_once(rows):
    """Where that axis has the batch's length, gradients would be those of rows, and nobody would know."""
    with pytest.raises(oodkit.PluginError, match=rf"'layer' is not the images \({rows}x2x{64 // rows} for two, "):
        oodkit.adapt(Sequence(rows), log_prob="transposed", image_shape=SHAPE)


@pytest.mark.parametrize("rows", [1, 2, 8])
def test_a_layer_that_sees_the_same_for_all_images_is_refused_at_once(rows):
    with pytest.raises(oodkit.PluginError, match=rf"\({rows}x{64 // rows} for two, {rows}x{64 // rows} for one\)"):
        oodkit.adapt(Sequence(rows), log_prob="shared", image_shape=SHAPE)


def test_a_layer_that_has_the_images_in_another_order_is_refused_at_once():
    with pytest.raises(oodkit.PluginError, match=r"name its parameters in layers=… \(layer.weight\)"):
        oodkit.adapt(Sequence(), log_prob="reversed", image_shape=SHAPE)


@pytest.mark.parametrize("log_prob", ["transposed", "reversed"])
def test_the_parameters_of_such_a_layer_are_taken_whole(log_prob):
    model = oodkit.adapt(Sequence(), log_prob=log_prob, image_shape=SHAPE, layers="layer.weight")
    images = KNOWN.images[:8]
    (gradients,) = oodkit.layer_gradients(model, images).values()
    for i, dense in enumerate(gradients.dense()):
        (expected,) = torch.autograd.grad(model.log_prob(images[i : i + 1]).sum(), model.module.layer.weight)
        torch.testing.assert_close(dense, expected)


def test_an_untrained_twin_draws_other_weights_or_says_that_it_cannot():
    model = adapted("autoencoder")
    twin = model.fresh(seed=1)
    assert not torch.equal(twin.module.encode.weight, model.module.encode.weight)
    assert torch.equal(twin.module.encode.weight, model.fresh(seed=1).module.encode.weight)

    class Odd(Autoencoder):
        def __init__(self):
            super().__init__()
            self.shift = nn.Parameter(torch.zeros(1))

    odd = oodkit.adapt(Odd(), log_prob="minus_error", image_shape=SHAPE)
    with pytest.raises(oodkit.PluginError, match="fresh="):
        odd.fresh()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_untrained_twin_keeps_the_type_of_the_weights(dtype):
    own = oodkit.adapt(Autoencoder(), log_prob="minus_error", image_shape=SHAPE, fresh=Autoencoder)
    for model in (oodkit.create_model("vae", (1, 32, 32), width=2, latent=2), adapted("autoencoder"), own):
        assert model.to(dtype).fresh(seed=1).dtype == dtype


# --- the command line ---------------------------------------------------------------------------------------

MODULE = """
import torch
from torch import nn
import oodkit


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode, self.decode = nn.Linear(64, 6), nn.Linear(6, 64)

    def minus_error(self, x):
        x = x.flatten(1)
        return -(self.decode(torch.tanh(self.encode(x))) - x).square().sum(1)


def make():
    return oodkit.adapt(Autoencoder(), log_prob="minus_error", image_shape=(1, 8, 8))


def wrong():
    return Autoencoder()
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MODULE)
    np.savez(tmp_path / "known.npz", images=TRAIN.images.numpy())
    np.savez(tmp_path / "unknown.npz", images=UNKNOWN.images.numpy())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_train_bench_fit_and_score_a_module_of_your_own(here, capsys):
    # the module's own weights, trained elsewhere
    module = oodkit.train_model(adapted("autoencoder"), TRAIN, epochs=12, learning_rate=3e-3).module
    save_file(module.state_dict(), here / "plain.safetensors")
    common = "--id known.npz --ood unknown.npz --detector rose-ekfac,elbo --no-baseline --json"
    assert main(f"bench --model mine.py:make --weights plain.safetensors {common}".split()) == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    assert all(cell["auroc"] > 0.9 for cell in cells) and {cell["model"] for cell in cells} == {"mine.py:make"}

    # trained from the shell
    assert main("train --model mine.py:make --id known.npz --epochs 12 --out trained.safetensors".split()) == 0
    fit = "fit --detector elbo --model mine.py:make --weights trained.safetensors --id known.npz --out elbo.oodkit"
    assert main(fit.split()) == 0
    assert main("score known.npz --detector-file elbo.oodkit".split()) == 2
    assert "a model of your own, mine.py:make; give it again" in capsys.readouterr().err
    assert main("score known.npz unknown.npz --detector-file elbo.oodkit --model mine.py:make --json".split()) == 0
    rows = json.loads(capsys.readouterr().out)["scores"]
    highest = max(row["score"] for row in rows if row["path"] == "known.npz")
    assert all(row["score"] > highest for row in rows if row["path"] == "unknown.npz")


def test_other_weights_are_another_run(here, capsys):
    for seed in (0, 1):
        torch.manual_seed(seed)
        save_file(adapted("autoencoder").fresh(seed).module.state_dict(), here / "w.safetensors")
        model = "--model mine.py:make --weights w.safetensors"
        command = f"bench {model} --id known.npz --ood unknown.npz --detector elbo --no-baseline --json"
        assert main(command.split()) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["reused"] == 0


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("bench --model nowhere.py:make --id known.npz", "there is no file nowhere.py"),
        ("bench --model mine.py:made --id known.npz", "has no function 'made'"),
        ("bench --model mine.py --id known.npz", "mine.py names no function; write path/to/module.py:FUNCTION"),
        ("train --model mine.py --id known.npz --out x", "mine.py names no function; write"),
        ("fit --detector elbo --model mine.py --id known.npz --out x", "mine.py names no function; write"),
        ("score known.npz --model mine.py --detector-file x", "mine.py names no function; write"),
        ("score known.npz --model mine.py: --detector-file x", "mine.py: names no function; write"),
        ("bench --model ~no-such-user/mine.py:make --id known.npz", "there is no file ~no-such-user/mine.py"),
        ("bench --model mine.py:make --weights ~no-such-user/w --id known.npz", "there is no file ~no-such-user/w"),
        ("bench --model ~no-such-user/vae.oodkit --id known.npz", "there is no model file ~no-such-user/vae.oodkit"),
        ("bench --model mine.py:wrong --id known.npz", "returned Autoencoder; return oodkit.adapt"),
        ("bench --model broken.py:make --id known.npz", "broken.py:make failed: ModuleNotFoundError"),
        ("bench --model mine.py:make --weights known.npz --id known.npz", "is damaged or no safetensors file"),
        ("bench --model mine.py:make --weights other.safetensors --id known.npz", "do not fit the module"),
        ("bench --model vae --weights other.safetensors --id digits", "weights go with a model of your own"),
        ("fit --detector elbo --weights w --id known.npz --out x", "--weights go with a model of your own"),
        ("bench --model mine.py:make --detector lr-z --id known.npz", "needs a latent-variable model"),
    ],
)
def test_mistakes_are_one_sentence(here, capsys, command, said):
    (here / "broken.py").write_text("import nothing_of_this_name\n")
    save_file({"other": torch.zeros(1)}, here / "other.safetensors")
    assert main(command.split()) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
