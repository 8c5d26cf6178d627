"""How long it takes until a model is a Plan: forward, gradient, update, and one run on the example.

In seconds of the processor, on one thread, so that other load on the machine does not count. Beside it stands
what PyTorch's own tracer takes for forward and gradient alone, once.
"""

import functools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext
from torch.nn import functional as F

from benchmarks.line import Line, Options
from benchmarks.timing import duration, quartiles
from fedplan import training_plan

SECONDS = 6


class Block(nn.Module):
    """One layer of a GPT: attention and a perceptron, each after a layer norm, with dropout."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.inner = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, steps, width) → the same."""
        query, key, value = self._parts(x)
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True, dropout_p=0.1)
        x = x + self.dropout(self.out(seen.transpose(1, 2).flatten(2)))
        added: torch.Tensor = self.dropout(self.inner(self.between(x)))
        return x + added

    def _parts(self, x: torch.Tensor) -> Iterator[torch.Tensor]:
        """Queries, keys and values, each (batch, heads, steps, width / heads)."""
        for part in self.query_key_value(self.before(x)).chunk(3, -1):
            yield part.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)


class GPT(nn.Module):
    """A language model of 10 M numbers for characters: 6 layers, 6 heads, 384 wide."""

    def __init__(self, layers: int = 6, width: int = 384, heads: int = 6, words: int = 65) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(256, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, words, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Words (batch, steps) → scores of the next, (batch, words, steps)."""
        places = self.places(torch.arange(x.shape[1], device=x.device))
        scores: torch.Tensor = self.out(self.norm(self.blocks(self.words(x) + places)))
        return scores.transpose(1, 2)


class Bottleneck(nn.Module):
    """Three convolutions and a way around them."""

    def __init__(self, into: int, inner: int, stride: int) -> None:
        super().__init__()
        self.around = nn.Sequential()
        if stride > 1 or into != 4 * inner:
            self.around = nn.Sequential(
                nn.Conv2d(into, 4 * inner, 1, stride, bias=False), nn.BatchNorm2d(4 * inner)
            )
        self.through = nn.Sequential(
            nn.Conv2d(into, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU(),
            nn.Conv2d(inner, inner, 3, stride, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU(),
            nn.Conv2d(inner, 4 * inner, 1, bias=False), nn.BatchNorm2d(4 * inner),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pictures (batch, channels, height, width)."""
        made: torch.Tensor = self.through(x) + self.around(x)
        return made.relu()


def resnet_50(depths: tuple[int, ...] = (3, 4, 6, 3)) -> nn.Module:
    """He et al., "Deep residual learning for image recognition", 2016: 25.6 M numbers."""
    blocks, into = [], 64
    for stage, depth in enumerate(depths):
        inner = 64 << stage
        for place in range(depth):
            blocks.append(Bottleneck(into, inner, 2 if stage and not place else 1))
            into = 4 * inner
    return nn.Sequential(
        nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
        *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(into, 1000),
    )  # fmt: skip


def run(options: Options) -> list[Line]:
    """Both models; the example is small, since what takes the time is not in its numbers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _both(options)
    finally:
        torch.set_num_threads(threads)


def _both(options: Options) -> list[Line]:
    words = torch.randint(0, 65, (2, 64))
    pictures = torch.randn(2, 3, 64, 64), torch.randint(0, 1000, (2,))
    gpt = functools.partial(GPT, 1, 32, 2) if options.smoke else GPT
    resnet = functools.partial(resnet_50, (1,)) if options.smoke else resnet_50
    return [
        _traced("GPT, 10 M numbers", gpt, (words, words), torch.optim.AdamW, options),
        _traced("ResNet-50", resnet, pictures, torch.optim.SGD, options),
    ]


def _traced(
    what: str,
    make: Callable[[], nn.Module],
    example: tuple[torch.Tensor, torch.Tensor],
    optimizer: type[torch.optim.Optimizer],
    options: Options,
) -> Line:
    model = make()
    seconds, floor = [], []
    for _ in range(options.rounds(5)):
        begin = time.process_time()
        training_plan(model, F.cross_entropy, example=example, optimizer=optimizer)
        between = time.process_time()
        _trace_once(model, *example)
        seconds.append(between - begin)
        floor.append(time.process_time() - between)
    median, least = statistics.median(seconds), statistics.median(floor)
    against = duration(least)
    return Line(f"tracing {what}", duration(median), against, median, quartiles(seconds), SECONDS, "s")


def _trace_once(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    """PyTorch's tracer at any batch size, over what no way to a Plan can do without."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    trained = [name for name, _ in model.named_parameters()]

    def gradients(given: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
        own = {name: value.detach().clone() for name, value in given.items()}
        leaves = [own[name].requires_grad_() for name in trained]
        loss = F.cross_entropy(functional_call(model, own, (x,)), y)
        return [loss, *torch.autograd.grad(loss, leaves)]

    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    weights = {name: mode.from_tensor(value, static_shapes=True) for name, value in tensors.items()}
    batch = [mode.from_tensor(value, symbolic_context=_any_rows(value)) for value in (x, y)]
    make_fx(gradients, tracing_mode="symbolic", _allow_non_fake_inputs=True)(weights, *batch)


def _any_rows(value: torch.Tensor) -> StatelessSymbolicContext[Any, Any]:
    return StatelessSymbolicContext([DimDynamic.DYNAMIC] + [DimDynamic.STATIC] * (value.dim() - 1))
