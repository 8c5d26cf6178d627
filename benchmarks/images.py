"""Images of 28 × 28 pixels in the four files of MNIST, or of Fashion-MNIST, which has the same form."""

import dataclasses
import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

NAMES = tuple(
    f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
)


@dataclasses.dataclass(frozen=True)
class Images:
    """Images and what they show.

    Attributes:
        pixels: (images, 784) float32 from 0 to 1.
        labels: (images,) int64 from 0 to 9.
    """

    pixels: NDArray[np.float32]
    labels: NDArray[np.int64]

    def first(self, count: int) -> "Images":
        """So many of them."""
        return Images(self.pixels[:count], self.labels[:count])


def read_images(folder: Path) -> tuple[Images, Images]:
    """Those to train on, and those to test with.

    Raises:
        SystemExit: a file is missing; says which.
    """
    missing = [name for name in NAMES if not (folder / name).is_file()]
    if missing:
        raise SystemExit(f"{folder} lacks {', '.join(missing)}")
    return _part(folder, "train"), _part(folder, "t10k")


def _part(folder: Path, part: str) -> Images:
    pixels = _bytes(folder / f"{part}-images-idx3-ubyte.gz", header=16).reshape(-1, 784)
    labels = _bytes(folder / f"{part}-labels-idx1-ubyte.gz", header=8)
    return Images(np.divide(pixels, 255, dtype=np.float32), labels.astype(np.int64))


def _bytes(file: Path, header: int) -> NDArray[np.uint8]:
    return np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8, offset=header)
