"""The networks: from images (N, C, H, W) to logits (N, classes).

Sources: Simonyan & Zisserman 2015, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
arXiv:1409.1556, table 1; He et al. 2016, "Deep Residual Learning for Image Recognition", arXiv:1512.03385, table 1.
Both are made for 224x224 pixels; what is changed for 32x32 stands with each.
"""

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["SMALLEST_SIDE", "cnn", "resnet18", "vgg"]

HIDDEN = 128  # of the basic CNN
VGG_STAGES = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2, 2, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
SMALLEST_SIDE = {"cnn": 8, "resnet18": 8, **dict.fromkeys(VGG_STAGES, 32)}  # what is halved so often must not vanish


def cnn(channels: int, side: tuple[int, int], classes: int, width: int) -> nn.Module:
    """Return three 3x3 convolutions with biases, each halved by maxima, and two linear layers."""
    layers: list[nn.Module] = []
    for outputs in (width, 2 * width, 4 * width):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
        channels = outputs
    pixels = (side[0] // 8) * (side[1] // 8)
    head = [nn.Linear(channels * pixels, HIDDEN), nn.ReLU(inplace=True), nn.Linear(HIDDEN, classes)]
    return nn.Sequential(*layers, nn.Flatten(), *head)


def vgg(name: str, channels: int, classes: int, width: int) -> nn.Module:
    """Return one of four VGGs, with batch normalisation.

    At 32x32, five halvings leave one pixel: one linear layer stands for the three of 4,096 hidden units.
    """
    layers: list[nn.Module] = []
    for convolutions, outputs in zip(VGG_STAGES[name], (1, 2, 4, 8, 8), strict=True):
        for _ in range(convolutions):
            layers += [*_convolution(channels, outputs * width), nn.ReLU(inplace=True)]
            channels = outputs * width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def resnet18(channels: int, classes: int, width: int) -> nn.Module:
    """Return a ResNet-18 whose stem is one 3x3 convolution of stride 1, without the maxima: 32x32 is small already."""
    layers: list[nn.Module] = [*_convolution(channels, width), nn.ReLU(inplace=True)]
    channels = width
    for stage in range(4):
        outputs = width * 2**stage
        layers += [Residual(channels, outputs, stride=2 if stage else 1), Residual(outputs, outputs)]
        channels = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


class Residual(nn.Module):
    """x + two 3x3 convolutions of x; where the shape changes, x passes a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(inputs, outputs, stride=stride), nn.ReLU(inplace=True), *_convolution(outputs, outputs)
        )
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(*_convolution(inputs, outputs, size=1, stride=stride))

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, outputs, H/stride, W/stride)."""
        return F.relu(self.shortcut(x) + self.body(x))


def _convolution(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    """Return a convolution without bias, which the batch normalisation behind it would take away."""
    layer = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer, nn.BatchNorm2d(outputs)
