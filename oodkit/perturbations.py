"""Perturbations that take detail away from images: what background models and random networks learn to tell apart.

uint8 (N, C, H, W) in and out, on the images' device. The four of Choi et al. 2021 (arXiv:2106.07903, figure 11) are
called by name through `perturb`; `brightness` is its sweep of tables 1, 8 and 9; `jpeg` is for controls.
"""

import math
from io import BytesIO
from typing import get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from oodkit.errors import ImageError, OptionError
from oodkit.images import check_images
from oodkit.perturbation_options import Perturbation

__all__ = ["Perturbation", "brightness", "dct", "gaussian_blur", "jpeg", "perturb", "random", "svd"]


def perturb(images: Tensor, kind: Perturbation, generator: torch.Generator, strength: float | None = None) -> Tensor:
    """Return perturbed images, by the perturbation's name.

    Args:
        images: uint8, (N, C, H, W).
        kind: which one.
        generator: on the CPU; only "random" draws from it.
        strength: svd: singular values dropped; dct: coefficients kept; gaussian-blur: σ in pixels, with a 3x3 kernel;
            random: the probability μ. By default the function's own, and for random 0.3 (grey) or 0.2 (colour).

    Raises:
        OptionError: no such perturbation, or a strength that makes no sense.
    """
    match kind:
        case "svd":
            return svd(images) if strength is None else svd(images, int(strength))
        case "dct":
            return dct(images) if strength is None else dct(images, int(strength))
        case "gaussian-blur":
            return gaussian_blur(images) if strength is None else gaussian_blur(images, sigma=strength)
        case "random":
            return random(images, generator, strength)
    raise OptionError(f"no perturbation is called {kind!r}; there are: {', '.join(get_args(Perturbation))}.")


def svd(images: Tensor, drop: int = 28) -> Tensor:
    """Return each channel without its `drop` smallest singular values.

    Raises:
        OptionError: nothing would be left of images of this size.

    Source: Choi & Chung 2020, "Novelty Detection via Blurring", arXiv:1911.11943.
    """
    check_images(images)
    rank = min(images.shape[-2:])
    if not 0 <= drop < rank:
        raise OptionError(
            f"svd: drop is {drop}; images of {images.shape[-2]}x{images.shape[-1]} have {rank} singular values, "
            "of which at least one must stay."
        )
    # float64: in float32 the singular vectors beside the cut, where values lie close, are off by 1e-2 grey levels
    u, s, vh = torch.linalg.svd(images.double(), full_matrices=False)  # (N, C, H, R), (N, C, R), (N, C, R, W)
    kept = rank - drop
    return _to_uint8((u[..., :kept] * s[..., None, :kept]) @ vh[..., :kept, :])


def dct(images: Tensor, keep: int = 28) -> Tensor:
    """Return each channel from its `keep` largest coefficients, by magnitude, of the orthonormal type-II 2-D DCT.

    Of coefficients with the same magnitude the one of the lower row, then column, is kept. All of them are kept where
    an image has no more.

    Raises:
        OptionError: `keep` is not positive.
    """
    check_images(images)
    if keep < 1:
        raise OptionError(f"dct: keep is {keep}; at least one coefficient must stay.")
    rows, columns = (_dct_basis(size, images.device) for size in images.shape[-2:])
    flat = (rows @ images.double() @ columns.T).flatten(2)  # (N, C, H·W)
    # Symmetric images have equal coefficients, which rounding errors would put in an order of each device's own: round
    # these away, and sort stably (topk's choice among equals depends on the device too).
    dropped = flat.abs().round(decimals=6).argsort(dim=2, descending=True, stable=True)[..., keep:]
    coefficients = flat.scatter(2, dropped, 0.0).view(images.shape)
    # Halves would go up or down by the last bit, which hangs on the size of the batch.
    return _to_uint8((rows.T @ coefficients @ columns).round(decimals=6))


def gaussian_blur(images: Tensor, kernel: int = 3, sigma: float = 0.8) -> Tensor:
    """Return each channel blurred by a Gaussian of `kernel` x `kernel` pixels, its weights summing to 1.

    Beyond the border the image is mirrored without repeating its edge (`dcb|abcd|cba`: OpenCV's default, "mirror" of
    scipy.ndimage).

    Raises:
        OptionError: a kernel that is not odd, a σ that is not positive.
        ImageError: images too small to be mirrored by half a kernel.
    """
    check_images(images)
    if kernel < 1 or kernel % 2 == 0 or not 0 < sigma < math.inf:
        raise OptionError(f"gaussian-blur: kernel is {kernel}, sigma {sigma}; the one must be odd, the other positive.")
    half, (height, width) = kernel // 2, images.shape[-2:]
    if min(height, width) <= half:
        raise ImageError(f"gaussian-blur: a kernel of {kernel} is too wide for images of {height}x{width}.")
    offsets = torch.arange(-half, half + 1, dtype=torch.float64)
    weights = (-0.5 * (offsets / sigma).square()).softmax(0).tolist()
    blurred = F.pad(images.double(), (half, half, half, half), mode="reflect")
    # Sums of shifted images, not a convolution, which CUDA may do in TF32: three digits, not enough to round by.
    blurred = sum((w * blurred[..., i : i + height, :] for i, w in enumerate(weights)), blurred.new_zeros(()))
    blurred = sum((w * blurred[..., i : i + width] for i, w in enumerate(weights)), blurred.new_zeros(()))
    return _to_uint8(blurred)


def random(images: Tensor, generator: torch.Generator, mu: float | None = None) -> Tensor:
    """Return images of which each sub-pixel is, with probability `mu`, a uniform 0..255.

    `generator` gives one number per sub-pixel, image after image: what becomes of an image depends on its pixels and
    on its place in the stream, never on its neighbours' pixels, and one call on a batch equals one call on each image
    in turn.

    Args:
        images: uint8, (N, C, H, W).
        generator: on the CPU, so that every device gets the same numbers.
        mu: the probability; by default the paper's, 0.3 for grey images and 0.2 for colour.

    Raises:
        OptionError: `mu` is no probability.

    Source: Ren et al. 2019, arXiv:1906.02845, section 3.
    """
    check_images(images)
    if mu is None:
        mu = 0.3 if images.shape[1] == 1 else 0.2
    if not 0 <= mu <= 1:
        raise OptionError(f"random: mu is {mu}; it is a probability, 0..1.")
    draws = torch.rand(images.shape, generator=generator, dtype=torch.float64).to(images.device)
    # Below μ, draws / μ is uniform again: one number says both whether and by what.
    return _to_uint8(torch.where(draws < mu, (draws / mu * 256).floor(), images.double()))


def brightness(images: Tensor, factor: float) -> Tensor:
    """Return images whose every value is `factor` times as large, at most 255.

    Raises:
        OptionError: `factor` is negative or not finite.
    """
    check_images(images)
    if not 0 <= factor < math.inf:
        raise OptionError(f"brightness: factor is {factor}; it must be finite, 0 or larger.")
    return _to_uint8(images.double() * factor)


def jpeg(images: Tensor, quality: int = 75) -> Tensor:
    """Return images after JPEG compression, chroma at half the resolution (Pillow); one after the other, on the CPU.

    Raises:
        ImageError: images of another number of channels than 1 (grey) or 3 (colour).
        OptionError: `quality` is not within 1..100.
    """
    check_images(images)
    if images.shape[1] not in (1, 3):
        raise ImageError(
            f"jpeg: only grey (1) and colour (3) images can be compressed, not {images.shape[1]} channels."
        )
    if not 1 <= quality <= 100:
        raise OptionError(f"jpeg: quality is {quality}; it must be within 1..100.")
    pixels = images.permute(0, 2, 3, 1).cpu().numpy()  # (N, H, W, C)
    decoded = []
    for picture in pixels if pixels.shape[3] == 3 else pixels[..., 0]:
        file = BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=quality)
        decoded.append(np.asarray(Image.open(file)).reshape(pixels.shape[1:]))
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).contiguous().to(images.device)


def _dct_basis(size: int, device: torch.device) -> Tensor:
    """Return the orthonormal type-II DCT as a matrix, (frequency, position), float64."""
    k = torch.arange(size, dtype=torch.float64, device=device)
    basis = (math.pi / size * torch.outer(k, k + 0.5)).cos() * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return basis


def _to_uint8(values: Tensor) -> Tensor:
    """Return `values` as images: the one place that rounds (halves to even) and clips to 0..255."""
    return values.round().clamp(0, 255).to(torch.uint8)
