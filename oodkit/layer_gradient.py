"""`LayerGradient`: the gradients of one layer, one per image, kept factored; and what is computed from them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["LayerGradient", "Patches", "with_ones"]


@dataclass(eq=False)
class Patches:
    """What a convolution's kernel sees at each position. Gathered, it holds each pixel many times over.

    Attributes:
        images: what enters the layer, (N, C, H, W).
        kernel: its size, (k, k).
        stride: from one position to the next.
        dilation: from one pixel of the kernel to the next.
        padding: zeros above and below, and left and right.
        ones: whether the layer has a bias, which sees a 1.
        last: of patches that several layers see, the filters that they were last multiplied with, and the product.
        doubled: of such patches, the same in float64.
    """

    images: Tensor
    kernel: tuple[int, ...]
    stride: tuple[int, ...] = (1, 1)
    dilation: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0)
    ones: bool = False
    last: list[Tensor] | None = None
    doubled: "Patches | None" = None

    @property
    def width(self) -> int:
        """I = C·k·k (+1)."""
        return self.images.shape[1] * self.kernel[0] * self.kernel[1] + self.ones

    def double(self) -> "Patches":
        """Return the same in float64; of patches that several layers see, one for all of them."""
        if self.last is None:
            return replace(self, images=self.images.double())
        if self.doubled is None:
            self.doubled = replace(self, images=self.images.double(), last=[])
        return self.doubled

    def gathered(self) -> Tensor:
        """Return them side by side, (N, S, I)."""
        patches = F.unfold(self.images, self.kernel, self.dilation, self.padding, self.stride)  # (N, C·k·k, S)
        return with_ones(patches.transpose(1, 2), self.ones)

    def filtered(self, filters: Tensor) -> Tensor:
        """Return the product of each with each row of `filters`, (J, I), as (N, S, J): a convolution.

        A library's convolution gathers no patches, and is often faster than its product of matrices.
        """
        if self.last is None:
            return self._convolved(filters)
        if not self.last or not torch.equal(self.last[0], filters):
            self.last = [filters, self._convolved(filters)]
        return self.last[1]

    def same(self, other: "Patches") -> bool:
        """Return whether the two see the same memory in the same way."""
        mine, theirs = (
            (p.images.data_ptr(), p.images.shape, p.images.stride(), p.kernel, p.stride, p.dilation, p.padding, p.ones)
            for p in (self, other)
        )
        return mine == theirs

    def _convolved(self, filters: Tensor) -> Tensor:
        n, c, h, w = self.images.shape
        if (h, w) == self.kernel and not any(self.padding):  # one position an image: the images are positions of one
            positions = with_ones(self.images.flatten(1), self.ones)  # (N, I)
            product = F.conv1d(positions.T.unsqueeze(0), filters.unsqueeze(2))  # (1, J, N)
            return product.view(-1, n).T.unsqueeze(1)
        # Channels last: a position's products lie side by side, and nothing is copied below.
        images = self.images.contiguous(memory_format=torch.channels_last)
        filters, bias = (filters[:, :-1], filters[:, -1]) if self.ones else (filters, None)
        filters = filters.reshape(-1, c, *self.kernel)
        product = F.conv2d(images, filters, bias, self.stride, self.padding, self.dilation)
        return product.permute(0, 2, 3, 1).reshape(n, -1, len(filters))


class LayerGradient:
    """Gradients of one layer, one per image: the dense gradient of image n is Σ_s outputs[n, s] ⊗ inputs[n, s].

    Args:
        inputs: (N, S, I), what enters the layer at each position, with a last entry of 1 where there is a bias; or a
            convolution's patches, which are not gathered before they are needed.
        outputs: (N, S, O), ∂ log p(x) / ∂ (what leaves the layer) there.
        factored: whether the two come from a layer; False: one of them holds unit vectors, the other the gradient.

    Attributes:
        outputs: as given.
        factored: as given.
    """

    def __init__(self, inputs: Tensor | Patches, outputs: Tensor, factored: bool = True) -> None:
        self._inputs = inputs
        self.outputs = outputs
        self.factored = factored

    @classmethod
    def from_dense(cls, dense: Tensor) -> "LayerGradient":
        """Return gradients (N, O, I) in factored form: rows, or columns if fewer, are positions beside unit vectors."""
        n, o, i = dense.shape
        unit = torch.eye(min(o, i), dtype=dense.dtype, device=dense.device).expand(n, -1, -1)
        return cls(dense, unit, False) if o <= i else cls(unit, dense.transpose(1, 2), False)

    @property
    def inputs(self) -> Tensor:
        """What enters the layer, (N, S, I); a convolution's patches are gathered at each look."""
        return self._inputs.gathered() if isinstance(self._inputs, Patches) else self._inputs

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, S, O, I): images, positions, outputs, inputs; nothing is gathered for it."""
        n, s, o = self.outputs.shape
        return n, s, o, self._inputs.width if isinstance(self._inputs, Patches) else self._inputs.shape[2]

    @property
    def nbytes(self) -> int:
        """What memory it holds."""
        held = self._inputs.images if isinstance(self._inputs, Patches) else self._inputs
        return held.nbytes + self.outputs.nbytes

    def double(self) -> "LayerGradient":
        """Return the same gradients in float64."""
        return LayerGradient(self._inputs.double(), self.outputs.double(), self.factored)

    def dense(self) -> Tensor:
        """Return the gradients themselves, (N, O, I)."""
        return self.outputs.transpose(1, 2) @ self.inputs

    def between(self, left: Tensor, right: Tensor) -> "LayerGradient":
        """Return left s rightᵀ of each image's s, by whichever order of products is cheaper.

        Layers that see the same patches are given the same product where they ask with equal `right`: change neither
        it nor `right` in place.

        Args:
            left: (P, O).
            right: (Q, I).
        """
        _, s, o, i = self.shape
        if s * (i * i + o * o) > o * i * (i + o):  # multiplications per image: factors first, or s first
            return LayerGradient.from_dense(left @ self.dense() @ right.T)
        return LayerGradient(self._filtered(right), self.outputs @ left.T)

    def _filtered(self, filters: Tensor) -> Tensor:
        """Return the product of inputs with each row of `filters`, (J, I), as (N, S, J)."""
        if isinstance(self._inputs, Patches):
            return self._inputs.filtered(filters)
        n, s, i = self._inputs.shape
        if s * 32 > i:
            return self._inputs @ filters.T
        # Few rows an image: one product of all images reads the filters once, where torch would read them for each.
        return (self._inputs.reshape(-1, i) @ filters.T).view(n, s, -1)

    def sharing_with(self, others: Iterable["LayerGradient"]) -> "LayerGradient":
        """Return the same; patches that one of `others` has too become one, filtered once for both."""
        mine = self._inputs
        for theirs in (other._inputs for other in others):
            if isinstance(mine, Patches) and isinstance(theirs, Patches) and mine.same(theirs):
                theirs.last = []
                return LayerGradient(theirs, self.outputs)
        return self

    def sum_of_squares(self) -> Tensor:
        """Return the sum over images of the squared gradients, (O, I)."""
        _, s, o, i = self.shape
        if s == 1:  # one position: the square of an outer product is the product of the squares
            return self.outputs[:, 0].square().T @ self.inputs[:, 0].square()
        # squared after the sum over positions: F is of images, not of pixels
        total = self.outputs.new_zeros(o, i)
        for part in self._parts():
            total += part.dense().square_().sum(0)
        return total

    def weighted_squares(self, weight: Tensor) -> Tensor:
        """Return Σ_oi weight[o, i]·s[n, o, i]², (N,): a quadratic form with a diagonal matrix, (O, I)."""
        if self.shape[1] == 1:
            return (self.outputs[:, 0].square() @ weight * self.inputs[:, 0].square()).sum(1)
        return torch.cat([part.dense().square_().flatten(1) @ weight.flatten() for part in self._parts()])

    def squared_norm(self) -> Tensor:
        """Return ‖s‖² = Σ_oi s²_oi of each image, (N,)."""
        if self.shape[1] == 1:
            return self.outputs[:, 0].square().sum(1) * self.inputs[:, 0].square().sum(1)
        return torch.cat([part.dense().square_().flatten(1).sum(1) for part in self._parts()])

    def split(self, most: int | None = None) -> list["LayerGradient"]:
        """Return the same in parts of equal sizes, `most` images at most, or what takes 16 MB gathered; no copies."""
        n, s, o, i = self.shape
        parts = -(-n // max(1, most or 2**22 // (s * (i + o))))
        if parts <= 1:
            return [self]
        count = -(-n // parts)
        return [self._images(slice(k, k + count)) for k in range(0, n, count)]

    def _images(self, part: slice) -> "LayerGradient":
        inputs = self._inputs
        inputs = (
            replace(inputs, images=inputs.images[part], last=None, doubled=None)
            if isinstance(inputs, Patches)
            else inputs[part]
        )
        return LayerGradient(inputs, self.outputs[part], self.factored)

    def _parts(self) -> list["LayerGradient"]:
        """Return the images some at a time, so that their dense gradients stay in the cache, or in a GPU's memory."""
        _, _, o, i = self.shape
        budget = 2**19 * torch.get_num_threads() if self.outputs.device.type == "cpu" else 2**27
        return self.split(max(1, budget // (o * i)))


def with_ones(inputs: Tensor, bias: bool) -> Tensor:
    """Return inputs with a last entry of 1 where there is a bias."""
    return F.pad(inputs, (0, 1), value=1.0) if bias else inputs
