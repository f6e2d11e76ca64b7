"""Per-image gradients, from one backward pass over a batch, against autograd one image at a time."""

import re

import pytest
import torch
from densities import Built, Density, assert_same, autograd_per_image, log_density, random_images
from hypothesis import assume, given, settings, strategies as st
from torch import nn
from torch.nn import functional as F

from oodkit import (
    GenerativeModel,
    ModelOptions,
    PluginError,
    backward_pass,
    create_model,
    layer_gradients,
)

few = settings(max_examples=60, deadline=None)
sizes = st.tuples(st.integers(1, 3), st.integers(1, 3))


def assert_layer_is_right(model, images, name="layer", arrange=lambda weight: weight):
    """Compare a layer's dense gradient, (N, O, I), with those of its weight, arranged (O, …), and of its bias.

    Then the product with a matrix on each side, for which a convolution's patches are not gathered.
    """
    layer = model.get_submodule(name)
    parameters = [p for p in (layer.weight, layer.bias) if p is not None]
    weight, *bias = autograd_per_image(model, images, *parameters)
    slow = torch.stack([arrange(g).flatten(1) for g in weight])
    slow = torch.cat([slow, *(b.unsqueeze(2) for b in bias)], 2)
    fast = layer_gradients(model, images, [name])[name]
    assert_same(fast.dense(), slow)
    _, o, i = slow.shape
    left, right = torch.randn(2, o, dtype=torch.float64), torch.randn(3, i, dtype=torch.float64)
    for parts in (fast.split(), fast.split(1), fast.split(2)):
        assert_same(torch.cat([part.between(left, right).dense() for part in parts]), left @ slow @ right.T)


# --- the layers --------------------------------------------------------------------------------------------------


@st.composite
def convolutions(draw):
    groups, bias = draw(st.integers(1, 2)), draw(st.booleans())
    shape = 2, 2 * groups, draw(sizes)
    keywords = {"dilation": draw(sizes), "groups": groups, "bias": bias}
    padding = draw(st.one_of(st.sampled_from(["same", "valid"]), st.tuples(st.integers(0, 2), st.integers(0, 2))))
    mode = draw(st.sampled_from(["zeros", "circular", "reflect", "replicate"]))
    stride = 1 if padding == "same" else draw(sizes)
    return nn.Conv2d(*shape, stride=stride, padding=padding, padding_mode=mode, **keywords)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")  # torch tells of its copy
@few
@given(layer=convolutions(), n=st.integers(1, 3))
def test_conv2d(layer, n):
    assert_layer_is_right(Density(layer), random_images(n, height=9, width=8))


def as_convolution(kernel, groups):
    """Return a transposed convolution's kernel, (I, O/G, k, k), as the same plain one's, (O, I/G, k, k)."""
    mirrored = kernel.flip(2, 3).unflatten(0, (groups, -1))  # (G, I/G, O/G, k, k)
    return mirrored.transpose(1, 2).flatten(0, 1)


@few
@given(
    kernel=sizes,
    stride=sizes,
    dilation=sizes,
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    output_padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    groups=st.integers(1, 2),
    bias=st.booleans(),
    n=st.integers(1, 3),
)
def test_conv_transpose2d(kernel, stride, dilation, padding, output_padding, groups, bias, n):
    for i, side in enumerate((5, 4)):
        assume(output_padding[i] < max(stride[i], dilation[i]))
        assume((side - 1) * stride[i] - 2 * padding[i] + dilation[i] * (kernel[i] - 1) + output_padding[i] >= 0)
    layer = nn.ConvTranspose2d(2, 2 * groups, kernel, stride, padding, output_padding, groups, bias, dilation)
    images = random_images(n, height=5, width=4)
    assert_layer_is_right(Density(layer), images, arrange=lambda w: as_convolution(w, groups))


def test_a_transposed_convolution_is_the_plain_one_of_its_kernel():
    """What `as_convolution` says, on the layers themselves."""
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    kernel = torch.randn(4, 3, 2, 3, dtype=torch.float64)
    plain = F.conv2d(x, as_convolution(kernel, 2), padding=(1, 2), groups=2)
    assert_same(F.conv_transpose2d(x, kernel, groups=2), plain)


def test_conv_transpose2d_with_an_output_size():
    model = Built(lambda m, x: log_density(m.layer(x, output_size=(14, 11))), layer=nn.ConvTranspose2d(2, 3, 3, 2, 1))
    assert_layer_is_right(model, random_images(), arrange=lambda w: as_convolution(w, 1))


@few
@given(
    axes=st.lists(st.integers(1, 3), max_size=3),
    inputs=st.integers(1, 4),
    outputs=st.integers(1, 4),
    bias=st.booleans(),
    n=st.integers(1, 3),
)
def test_linear_with_any_axes_before_its_inputs(axes, inputs, outputs, bias, n):
    count = inputs * torch.Size(axes).numel()
    model = Density(
        nn.Linear(inputs, outputs, bias), before=nn.Sequential(nn.Flatten(), nn.Unflatten(1, (*axes, inputs)))
    )
    assert_layer_is_right(model, random_images(n, 1, 1, count))


def test_several_layers_at_once_through_norms_and_work_in_place():
    model = Density(
        nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(60, 2)),
        before=nn.Sequential(nn.ConvTranspose2d(2, 2, 1, bias=False), nn.ReLU(inplace=True)),
    ).eval()
    images = random_images()
    fast = layer_gradients(model, images)
    assert list(fast) == ["before.0", "layer.0", "layer.4"]  # all that there are, in the model's order
    assert_layer_is_right(model, images, "before.0", arrange=lambda w: as_convolution(w, 1))
    assert_layer_is_right(model, images, "layer.0")
    assert_layer_is_right(model, images, "layer.4")
    for name, gradient in fast.items():
        assert_same(gradient.dense(), layer_gradients(model, images, [name])[name].dense())


@pytest.mark.parametrize("uses", [2, 3])
def test_a_layer_used_more_than_once_has_the_sum_of_all_its_gradients(uses):
    def log_prob(model, x):
        for _ in range(uses):
            x = model.layer(x).tanh()
        return log_density(x)

    assert_layer_is_right(Built(log_prob, layer=nn.Conv2d(2, 2, 3, padding=1)), random_images())


def test_a_use_that_log_p_ignores_adds_nothing():
    def log_prob(model, x):
        model.layer(x)
        return log_density(model.layer(x.square()))

    assert_layer_is_right(Built(log_prob, layer=nn.Conv2d(2, 2, 3)), random_images())


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")  # torch tells of its copy
@pytest.mark.parametrize("kernel", [(3, 2), (2, 3)])
def test_a_convolution_with_one_more_zero_on_one_side(kernel):
    assert_layer_is_right(Density(nn.Conv2d(2, 3, kernel, padding="same")), random_images())


def test_an_image_alone_has_the_gradient_that_it_has_in_a_batch():
    model, images = Density(nn.Conv2d(2, 3, 3)), random_images(4)
    together = layer_gradients(model, images)["layer"].dense()
    order = [2, 0, 3, 1]
    assert_same(layer_gradients(model, images[order])["layer"].dense(), together[order])
    alone = torch.cat([layer_gradients(model, image[None])["layer"].dense() for image in images])
    assert_same(alone, together)


# --- any other parameter -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (2,), (2, 2), (2, 2, 1), (2, 2, 1, 1)])
def test_a_bare_parameter(shape):
    def log_prob(model, x):
        weight = model.mixing.expand(2, 2) if model.mixing.ndim < 3 else model.mixing.reshape(2, 2)
        return log_density(torch.einsum("oi,nihw->nohw", weight.sin(), x))

    model, images = Built(log_prob, mixing=nn.Parameter(torch.randn(shape))), random_images()
    (slow,) = autograd_per_image(model, images, model.mixing)
    rows = 1 if len(shape) < 2 else shape[0]
    assert_same(layer_gradients(model, images, ["mixing"])["mixing"].dense(), slow.reshape(3, rows, -1))


def flow(model, x):
    """log p(x) of a 1x1 convolution, whose weight enters by the log-determinant too."""
    h = model.layer(x)
    log_determinant = model.layer.weight[:, :, 0, 0].slogdet().logabsdet
    return -0.5 * h.square().flatten(1).sum(1) + x.shape[2] * x.shape[3] * log_determinant


def test_the_whole_gradient_of_a_parameter_that_enters_by_two_ways():
    model, images = Built(flow, layer=nn.Conv2d(2, 2, 1, bias=False)), random_images()
    (slow,) = autograd_per_image(model, images, model.layer.weight)
    name = "layer.weight"
    assert_same(layer_gradients(model, images, [name])[name].dense(), slow.flatten(2))


def tied(model, x):
    return log_density(F.linear(model.layer(x), model.layer.weight.T))


@pytest.mark.parametrize(
    ("log_prob", "layer"), [(flow, nn.Conv2d(2, 2, 1, bias=False)), (tied, nn.Linear(6, 2))], ids=["flow", "tied"]
)
def test_by_its_layer_such_a_parameter_is_refused(log_prob, layer):
    with pytest.raises(PluginError, match=r"'layer' enters log p\(x\) outside of that layer.*layer\.weight"):
        layer_gradients(Built(log_prob, layer=layer), random_images(), ["layer"])


def test_a_weight_that_two_layers_share_is_refused():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
    second.weight = first.weight
    model = Built(lambda m, x: log_density(m.second(m.first(x.flatten(1)).tanh())), first=first, second=second)
    images = random_images(3, 1, 2, 2)
    with pytest.raises(PluginError, match=r"'first' and 'second' share a weight; name the parameter"):
        layer_gradients(model, images)
    (slow,) = autograd_per_image(model, images, first.weight)
    assert_same(layer_gradients(model, images, ["first.weight"])["first.weight"].dense(), slow)


@pytest.mark.parametrize("layer", [nn.Linear(6, 2), nn.Conv2d(2, 3, 3), nn.ConvTranspose2d(2, 3, 2)], ids=repr)
def test_a_layer_may_be_called_by_keyword(layer):
    model = Built(lambda m, x: log_density(m.layer(input=x)), layer=layer)
    by_position = layer_gradients(Density(layer), random_images())["layer"].dense()
    assert_same(layer_gradients(model, random_images())["layer"].dense(), by_position)


def test_norm_weights_and_a_layer_s_weight_by_its_parameter():
    model = Density(nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True))).eval()
    images, names = random_images(), ["layer.1.weight", "layer.1.bias", "layer.0.weight"]
    slow = autograd_per_image(model, images, *(model.get_parameter(name) for name in names))
    fast = layer_gradients(model, images, [*names, "layer.0"])
    for name, gradient in zip(names, slow, strict=True):
        assert_same(fast[name].dense(), gradient.reshape(3, 1 if gradient.ndim == 2 else 3, -1))
    assert_same(fast["layer.0"].dense()[:, :, :-1], fast["layer.0.weight"].dense())  # the last is the bias


def test_norm_weights_of_the_vae():
    model, images = (
        create_model("vae", (1, 32, 32), width=2, latent=2, device="cpu").double().eval(),
        random_images(2, 1, 32, 32),
    )
    (slow,) = autograd_per_image(model, images, model.trunk[1].weight)
    assert_same(layer_gradients(model, images, ["trunk.1.weight"])["trunk.1.weight"].dense()[:, 0], slow)


# --- the model is left as it was ---------------------------------------------------------------------------------


def normed():
    model = Density(nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.5)), before=nn.BatchNorm2d(2))
    model.train()
    model.before.eval()  # one part kept in evaluation mode
    model.layer[1].weight.requires_grad_(False)  # one parameter frozen
    return model


def snapshot(model):
    return (
        [module.training for module in model.modules()],
        [p.requires_grad for p in model.parameters()],
        [p.grad for p in model.parameters()],
        [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()],
    )


def test_a_model_in_training_mode_is_judged_in_evaluation_mode_and_left_as_it_was():
    model, images = normed(), random_images()
    before, weights = snapshot(model), {k: v.clone() for k, v in model.state_dict().items()}
    names = ["layer.0", "before.weight"]
    in_training = layer_gradients(model, images, names)
    assert snapshot(model) == before
    torch.testing.assert_close(dict(model.state_dict()), weights, rtol=0, atol=0)  # running statistics among them
    in_evaluation = layer_gradients(model.eval(), images, names)
    for name in names:
        assert_same(in_training[name].dense(), in_evaluation[name].dense())


@pytest.mark.parametrize("name", ["layer.0", "layer.0.weight"])
def test_it_is_left_as_it_was_on_errors_too(name):
    model = normed()
    before, weight = snapshot(model), model.layer[0].weight
    with pytest.raises(RuntimeError):
        layer_gradients(model, random_images(channels=3), [name])  # 3 channels: the first layer takes 2
    assert snapshot(model) == before
    assert model.layer[0].weight is weight


def test_gradients_are_taken_without_asking_for_gradients():
    model, images = Density(nn.Conv2d(2, 3, 3)), random_images()
    with torch.no_grad():
        quiet = layer_gradients(model, images, ["layer", "layer.weight"])
        assert not torch.is_grad_enabled()
    for name, gradient in layer_gradients(model, images, ["layer", "layer.weight"]).items():
        assert_same(quiet[name].dense(), gradient.dense())
        assert not gradient.inputs.requires_grad and not gradient.outputs.requires_grad


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [["lair"], ["layer.wait"], ["before"], ["layer.1", "lair"]])
def test_unknown_layers_are_refused(names):
    model = Density(nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU()), before=nn.Identity())
    called = re.escape(", ".join(names))
    with pytest.raises(PluginError, match=rf"no Linear, Conv2d, ConvTranspose2d or parameter called {called}\."):
        layer_gradients(model, random_images(), ["layer.0", *names])


def ignoring(model, x):
    model.layer(x)
    return model.other(x).flatten(1).sum(1)


@pytest.mark.parametrize("log_prob", [ignoring, lambda m, x: m.other(x).flatten(1).sum(1)], ids=["ignored", "not run"])
@pytest.mark.parametrize("missed", [["layer"], ["layer", "idle"]])
@pytest.mark.parametrize("used", [[], ["other"]])
def test_layers_that_log_p_does_not_pass_through_are_refused(log_prob, missed, used):
    model = Built(log_prob, **{name: nn.Conv2d(2, 3, 3) for name in ("layer", "idle", "other")})
    with pytest.raises(PluginError, match=rf"does not pass through the layers {', '.join(missed)}\."):
        layer_gradients(model, random_images(), [*missed, *used])


def test_a_layer_whose_input_is_changed_in_place_afterwards_is_refused():
    """Its gradient is made of that input, at the end."""

    def log_prob(model, x):
        y = model.layer(x)
        return log_density(y) + log_density(x.mul_(2))

    with pytest.raises(PluginError, match="what layer 'layer' was given is changed in place after it"):
        layer_gradients(Built(log_prob, layer=nn.Conv2d(2, 2, 1)), random_images())


def test_a_layer_whose_first_axis_is_not_the_images_is_refused():
    model = Built(lambda m, x: log_density(m.layer(x.flatten(0, 1)).unflatten(0, (-1, 2))), layer=nn.Linear(6, 2))
    before = snapshot(model)
    with pytest.raises(PluginError, match="'layer' sees 6 rows for 3 images"):
        layer_gradients(model, random_images())
    assert snapshot(model) == before


# --- one pass ----------------------------------------------------------------------------------------------------


def test_a_layer_with_a_forward_of_its_own_is_taken_by_its_parameters_only():
    """Masked, half of the weight has no gradient: the layer's inputs and outputs do not know."""

    class Masked(nn.Linear):
        def forward(self, x):
            return F.linear(x, self.weight * (torch.arange(4) < 2), self.bias)

    class Model(GenerativeModel):
        def __init__(self):
            super().__init__((1, 2, 2), ModelOptions())
            self.layer = Masked(4, 3)

        def log_prob(self, images):
            return -self.layer(images.flatten(1).float()).square().sum(1)

    model, images = Model(), torch.arange(8, dtype=torch.uint8).view(2, 1, 2, 2)
    with pytest.raises(PluginError, match=r"is a Masked with a forward of its own; name its parameters \(layer.weight"):
        layer_gradients(model, images, ["layer"])
    dense = layer_gradients(model, images, ["layer.weight"])["layer.weight"].dense()
    assert not dense[..., 2:].any() and dense[..., :2].any()


@pytest.mark.parametrize("name", ["vae", "glow", "classifier"])
def test_one_pass_gives_gradients_log_prob_and_statistics(name):
    model = create_model(name, (1, 32, 32), device="cpu").double()
    images = random_images(3, 1, 32, 32)
    both = backward_pass(model, images, statistics=True)
    gradients = layer_gradients(model, images)
    model.eval()
    with torch.no_grad():
        assert_same(both.log_prob, model.log_prob(images))
        assert_same(both.statistics, dict(model.statistics(images)))
    assert backward_pass(model, images).statistics == {}
    assert both.gradients.keys() == gradients.keys()
    for layer, gradient in gradients.items():
        assert_same(both.gradients[layer].dense(), gradient.dense())


@pytest.mark.parametrize("layers", [["mixing"], ["mixing", "layer"], ["layer.weight", "mixing"]])
def test_bare_parameters_too_come_from_one_pass(layers):
    """Alone, beside a layer, and with that layer's own parameter."""

    def log_prob(model, x):
        return log_density(torch.einsum("oi,nihw->nohw", model.mixing.sin(), model.layer(x)))

    layer = nn.Conv2d(2, 2, 1, bias=False)
    model, images = Built(log_prob, mixing=nn.Parameter(torch.randn(2, 2)), layer=layer), random_images()
    asked = []

    def statistics(images):
        asked.append(layers)
        return {"seen": layer(images.double() / 255).flatten(1).sum(1)}

    model.statistics = statistics
    both = backward_pass(model, images, layers, statistics=True)
    assert len(asked) == 1
    for name, gradient in zip(
        ["mixing", "layer"], autograd_per_image(model, images, model.mixing, layer.weight), strict=True
    ):
        found = [both.gradients[n] for n in layers if n.startswith(name)]
        assert_same([g.dense() for g in found], [gradient.flatten(2).reshape(3, 2, 2)] * len(found))
    with torch.no_grad():
        assert_same(both.log_prob, model.log_prob(images))
        assert_same(both.statistics, dict(model.statistics(images)))


def test_what_a_model_says_of_itself_adds_nothing_to_a_gradient():
    layer = nn.Linear(2, 2)
    model = Built(lambda m, x: log_density(m.layer(x.flatten(1))), layer=layer)
    model.statistics = lambda images: {"seen": layer(images.double().flatten(1) / 255).sum(1)}
    images = random_images(3, 1, 1, 2)
    both = backward_pass(model, images, statistics=True)
    expected = autograd_per_image(model, images, layer.weight, layer.bias)
    dense = both.gradients["layer"].dense()
    assert_same(dense[..., :2], expected[0])
    assert_same(dense[..., 2], expected[1])
    assert_same(both.statistics["seen"], layer(images.double().flatten(1) / 255).sum(1).detach())
