"""MNIST from its four standard files: images as (samples, 784) float32, labels as (samples,) int64."""

import gzip
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def read(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """Images and labels of a part, "train" or "t10k"; pixels are scaled to about −0.4 … 2.8."""
    images = _read_idx(folder / f"{part}-images-idx3-ubyte.gz")
    labels = _read_idx(folder / f"{part}-labels-idx1-ubyte.gz")
    pixels = (images.reshape(len(images), -1) / 255 - 0.1307) / 0.3081  # mean and deviation of MNIST
    return torch.from_numpy(pixels.astype(np.float32)), torch.from_numpy(labels.astype(np.int64))


def _read_idx(path: Path) -> np.ndarray:
    """An IDX file: two zero bytes, the type (8: unsigned byte), the rank, the extents, the values."""
    data = gzip.decompress(path.read_bytes())
    zeros, kind, rank = data[:2], data[2], data[3]
    if zeros != b"\0\0" or kind != 8:
        raise ValueError(f"{path} is no IDX file of bytes")
    shape = np.frombuffer(data, ">u4", count=rank, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)
