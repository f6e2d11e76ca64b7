"""Models on a GPU are the models of the CPU; the conformance kit holds every detector to the same."""

import pytest
import torch

from oodkit import create_model, layer_gradients
from oodkit.testing.inputs import blobs

MODELS = [
    ("vae", {"width": 4, "latent": 6}),
    ("glow", {"steps": 2, "hidden": 8}),
    ("glow-cifar10", {"steps": 2, "hidden": 8}),
    ("classifier", {"classes": 10, "width": 4}),
]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("name", "options"), MODELS, ids=[name for name, _ in MODELS])
def test_model_on_cuda_is_the_model_on_the_cpu(name, options):
    images = blobs(8).images
    model = create_model(name, tuple(images.shape[1:]), device="cpu", **options).double().eval()
    layers = model.curvature_layers()
    here = model.log_prob(images), model.log_likelihood(images), layer_gradients(model, images, layers)
    model.cuda()
    there = (
        model.log_prob(images.cuda()),
        model.log_likelihood(images.cuda()),
        layer_gradients(model, images.cuda(), layers),
    )
    for one, other in zip(here[:2], there[:2], strict=True):
        torch.testing.assert_close(other.cpu(), one, rtol=1e-8, atol=1e-6)
    for layer in layers:
        torch.testing.assert_close(there[2][layer].dense().cpu(), here[2][layer].dense(), rtol=1e-8, atol=1e-8)
