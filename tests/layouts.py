"""Files of data sets in the layouts that torchvision writes: what goes into them, as bytes."""

import pickle
import struct

import torch

__all__ = ["batch", "idx", "random_images", "written"]


def idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def batch(images, labels, key="labels", protocol=2):
    rows = images.reshape(len(images), -1).numpy()
    names = [f"{i}.png" for i in range(len(images))]
    held = {b"batch_label": b"batch 1", key.encode(): labels, b"data": rows, b"filenames": names}
    return pickle.dumps(held, protocol=protocol)


def random_images(n, channels, side):
    generator = torch.Generator().manual_seed(n)
    return torch.randint(256, (n, channels, side, side), dtype=torch.uint8, generator=generator)


def written(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
