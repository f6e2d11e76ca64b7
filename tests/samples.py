"""Small images, and files of them, for the tests of what reads images."""

import io
import zipfile

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

__all__ = ["Items", "encoded", "named_pngs", "pil", "random_images", "tensor", "write_folder", "write_zip"]


def random_images(n=6, channels=3, height=12, width=12, seed=0):
    shape = (n, channels, height, width)
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def pil(image):
    """Return one (C, H, W) image as PIL has it."""
    rows = image.permute(1, 2, 0).numpy()
    return Image.fromarray(np.ascontiguousarray(rows[..., 0] if rows.shape[2] == 1 else rows))


def tensor(picture):
    rows = np.array(picture)
    return torch.from_numpy(rows[None] if rows.ndim == 2 else np.moveaxis(rows, 2, 0).copy())


def encoded(picture, kind="PNG", **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def write_folder(folder, contents):
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def write_zip(path, contents):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def named_pngs(images):
    return {f"{i:03}.png": encoded(pil(image)) for i, image in enumerate(images)}


class Items(Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]
