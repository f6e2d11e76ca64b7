"""The real sets by name: the layouts in which people have them, and how to get them.

Besides what stands here, every set is looked for as `<name>-<split>.npz`, `.zip`, folder `<name>/<split>`,
and one file for every split, `<name>.npz` or `<name>.zip`.
"""

from oodkit_datasets.celeba import read_celeba
from oodkit_datasets.cifar import (
    read_cifar10_binary,
    read_cifar10_python,
    read_cifar100_binary,
    read_cifar100_python,
)
from oodkit_datasets.idx import read_idx_images
from oodkit_datasets.search import NamedSet, Place
from oodkit_datasets.svhn import read_mat

__all__ = [
    "celeba",
    "cifar10",
    "cifar100",
    "fashion_mnist",
    "kmnist",
    "lsun",
    "mnist",
    "notmnist",
    "omniglot",
    "rendered_digits",
    "svhn",
    "tiny_images",
]


def _idx(folder: str) -> tuple[Place, ...]:
    name = f"{folder}/{{idx}}-images-idx3-ubyte"
    return Place(name, read_idx_images), Place(f"{name}.gz", read_idx_images)


fashion_mnist = NamedSet(
    "fashion-mnist",
    channels=1,
    # The last is Debian's package; an absolute name is looked for as it is, whatever the data folder.
    places=(*_idx("FashionMNIST/raw"), *_idx("/usr/share/datasets/fashion-mnist")),
    torchvision="FashionMNIST",
    advice="on Debian and Ubuntu: apt install dataset-fashion-mnist",
)

mnist = NamedSet("mnist", channels=1, places=_idx("MNIST/raw"), torchvision="MNIST")

kmnist = NamedSet("kmnist", channels=1, places=_idx("KMNIST/raw"), torchvision="KMNIST")

notmnist = NamedSet(
    "notmnist",
    channels=1,
    places=(Place("notMNIST_small"),),
    advice="unpack notMNIST_small.tar.gz (yaroslavvb.blogspot.com, 'notMNIST dataset') into that folder",
)

omniglot = NamedSet("omniglot", channels=1, places=(Place("omniglot-py/{omniglot}"),), torchvision="Omniglot")

cifar10 = NamedSet(
    "cifar10",
    channels=3,
    first=(Place("cifar10-lossless-{split}.npz"),),  # the .zip is often of JPEG files: other pixels than CIFAR's
    places=(
        Place("cifar-10-batches-py/{batch}", read_cifar10_python),
        Place("cifar-10-batches-bin/{batch}.bin", read_cifar10_binary),
    ),
    torchvision="CIFAR10",
)

cifar100 = NamedSet(
    "cifar100",
    channels=3,
    places=(
        Place("cifar-100-python/{split}", read_cifar100_python),
        Place("cifar-100-binary/{split}.bin", read_cifar100_binary),
    ),
    torchvision="CIFAR100",
)

svhn = NamedSet(
    "svhn",
    channels=3,
    places=(Place("{split}_32x32.mat", read_mat), Place("svhn/{split}_32x32.mat", read_mat)),
    torchvision="SVHN",
)

celeba = NamedSet(
    "celeba",
    channels=3,
    places=(Place("celeba/img_align_celeba", read_celeba),),
    torchvision="CelebA",
    crop=False,  # the paper's code squashes faces to a square
)

lsun = NamedSet(
    "lsun",
    channels=3,
    advice="LSUN's own LMDB is not read: save its pictures as files into lsun/test and lsun/train",
)

# Stand-ins for SVHN and LSUN, under their own names: a result on them is not one on SVHN or LSUN.
rendered_digits = NamedSet("rendered-digits", channels=3)
tiny_images = NamedSet("tiny-images", channels=3)
