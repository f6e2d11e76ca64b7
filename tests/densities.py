"""What gradients are tested with: small models whose log p is a function of a layer, and autograd image by image."""

import torch
from torch import nn

from oodkit import GenerativeModel, ModelOptions

__all__ = ["Built", "Density", "assert_same", "autograd_per_image", "log_density", "random_images"]


class Density(GenerativeModel):
    """log p(x) is a function of all that leaves `layer`, in which every position counts differently."""

    def __init__(self, layer, before=None):
        super().__init__((1, 1, 1), ModelOptions())
        self.before = before or nn.Identity()
        self.layer = layer
        self.double()

    def log_prob(self, images):
        return log_density(self.layer(self.before(images.to(self.dtype) / 255)))


class Built(GenerativeModel):
    """A module of named parts and, as a function of them, what log p(x) is."""

    def __init__(self, log_prob, **parts):
        super().__init__((1, 1, 1), ModelOptions())
        for name, part in parts.items():
            setattr(self, name, part)
        self.function = log_prob
        self.double()

    def log_prob(self, images):
        return self.function(self, images.to(self.dtype) / 255)


def log_density(outputs):
    return -outputs.flatten(1).square().sum(1).log1p() - outputs.flatten(1).sin().sum(1)


def random_images(n=3, channels=2, height=7, width=6):
    generator = torch.Generator().manual_seed(n)
    return torch.randint(256, (n, channels, height, width), dtype=torch.uint8, generator=generator)


def autograd_per_image(model, images, *parameters):
    """Return the gradients of each parameter, (N, *shape), by one call of autograd for each image."""
    rows = [torch.autograd.grad(model.log_prob(image[None]).sum(), parameters) for image in images]
    return [torch.stack(column) for column in zip(*rows, strict=True)]


def assert_same(fast, slow):
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-12)
