"""Reports in fewer bytes: how few, and what they cost in accuracy, on MNIST with ten workers.

Every worker trains with the Plan's executor on its own images; its report is compressed, read as a grid reads
it, and averaged. The data set's four files are looked for in ``../shared/data/mnist`` beside the repository,
or where FEDPLAN_MNIST says.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.images import Images, read_images
from benchmarks.line import Line, Options
from fedplan import SyftModel, model_parameters, partition_iid, training_plan
from fedplan.client.training.compression import DiffCompressor
from fedplan.plan import to_torch
from fedplan.wire import State
from fedplan.wire.compression import FORMATS, decompress

DATA = Path(os.environ.get("FEDPLAN_MNIST", Path(__file__).parents[2] / "shared" / "data" / "mnist"))
WORKERS, CYCLES, ROWS, RATE = 10, 20, 64, 0.2

MOST_BYTES = {"float16": 0.51, "int8": 0.26, "topk": 0.03}
MOST_LOST = 0.5
"""Points of test accuracy."""


def normal(images: Images) -> tuple[torch.Tensor, torch.Tensor]:
    """Images, (samples, 784) of mean 0 and deviation 1, and their labels."""
    return torch.from_numpy((images.pixels - np.float32(0.1307)) / np.float32(0.3081)), torch.from_numpy(
        images.labels
    )


class Federation:
    """Ten workers with their images, and the model that they train."""

    def __init__(self, options: Options) -> None:
        torch.manual_seed(0)
        self.cycles = 2 if options.smoke else CYCLES
        train, test = read_images(DATA)
        (self.images, self.labels), self.test = normal(train), normal(test)
        parts = partition_iid(len(self.labels), WORKERS, seed=0)
        self.parts = [torch.as_tensor(part)[: 2 * ROWS if options.smoke else None] for part in parts]
        self.module = nn.Sequential(nn.Linear(784, 392), nn.ReLU(), nn.Linear(392, 10))
        example = (self.images[:ROWS], self.labels[:ROWS])
        self.plan = training_plan(self.module, F.cross_entropy, example=example)

    def train(self, format: str | None) -> tuple[float, int]:
        """Trains from the same start.

        Returns:
            Test accuracy in percent, and the bytes of all reports.
        """
        model = SyftModel([param.clone() for param in model_parameters(self.module)])
        compressors = [DiffCompressor(format) for _ in range(WORKERS)] if format else []
        sent = 0
        for cycle in range(self.cycles):
            total = [torch.zeros_like(param) for param in model.params]
            for worker in range(WORKERS):
                diff = model.diff(self._trained(model, worker, cycle))
                data = compressors[worker].compress(diff) if compressors else diff.serialize()
                if compressors:
                    compressors[worker].sent()
                sent += len(data)
                for held, part in zip(total, _arrived(data, model), strict=True):
                    held.add_(part, alpha=1 / WORKERS)
            model = SyftModel([param - part for param, part in zip(model.params, total, strict=True)])
        return self._accuracy(model), sent

    def _trained(self, model: SyftModel, worker: int, cycle: int) -> list[torch.Tensor]:
        """The model after one pass over a worker's images."""
        part = self.parts[worker]
        order = torch.randperm(len(part), generator=torch.Generator().manual_seed(cycle * WORKERS + worker))
        rate, params = torch.tensor([RATE]), model.params
        for rows in torch.split(part[order], ROWS):
            _, *params = self.plan(self.images[rows], self.labels[rows], rate, *params)
        return params

    def _accuracy(self, model: SyftModel) -> float:
        model.load_into(self.module)
        images, labels = self.test
        with torch.no_grad():
            return 100 * float((self.module(images).argmax(dim=1) == labels).float().mean())


def _arrived(data: bytes, model: SyftModel) -> list[torch.Tensor]:
    """What a grid makes of a report."""
    shapes = [tuple(param.shape) for param in model.params]
    return [to_torch(tensor) for tensor in decompress(State.parse(data), shapes, FORMATS)]


def run(options: Options) -> list[Line]:
    """For each form its bytes against those of float32, and the accuracy that it costs."""
    if not DATA.is_dir():
        print(f"No MNIST in {DATA}: set FEDPLAN_MNIST to the folder of its four files.")
        return []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _compare(Federation(options))
    finally:
        torch.set_num_threads(threads)


def _compare(federation: Federation) -> list[Line]:
    start = [param.clone() for param in model_parameters(federation.module)]
    exact, whole = federation.train(None)
    lines = []
    for format in FORMATS:
        _restore(federation.module, start)
        reached, sent = federation.train(format)
        share, lost = sent / whole, exact - reached
        lines += [
            Line(
                f"bytes of a report as {format}",
                _kilobytes(sent),
                _kilobytes(whole),
                share,
                (share, share),
                MOST_BYTES[format],
            ),
            Line(
                f"accuracy with {format}",
                f"{reached:.2f} %",
                f"{exact:.2f} %",
                lost,
                (lost, lost),
                MOST_LOST,
                "points lost",
            ),
        ]
    return lines


def _restore(module: nn.Module, params: Sequence[torch.Tensor]) -> None:
    SyftModel(params).load_into(module)


def _kilobytes(count: int) -> str:
    return f"{count / 1e3:.0f} kB"
