"""Models with odd extents: where WebGL's blocks of 2 × 2 reach beyond a matrix. For the interop tests too."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Batch = Callable[[int], Tensor]

ACTIVATIONS = (nn.ReLU, nn.Sigmoid, nn.Tanh, nn.ELU, nn.SiLU, nn.GELU, nn.Softplus, nn.Identity)


class Attention(nn.Module):
    """Attention over five places with seven features."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(7, 21), nn.Linear(7, 7)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.inner(x).chunk(3, -1)
        made: Tensor = self.outer(F.scaled_dot_product_attention(query, key, value))
        return made


def of(*shape: int) -> Batch:
    return lambda rows: torch.randn(rows, *shape)


MODELS: dict[str, tuple[Callable[[], nn.Module], Batch]] = {
    **{
        kind.__name__: (lambda kind=kind: nn.Sequential(nn.Linear(6, 7), kind(), nn.Linear(7, 3)), of(6))
        for kind in ACTIVATIONS
    },
    "attention": (Attention, of(5, 7)),
    "group norm": (
        lambda: nn.Sequential(nn.Linear(7, 9), nn.GroupNorm(3, 9), nn.Linear(9, 3)), of(7)
    ),
    "words": (
        lambda: nn.Sequential(nn.Embedding(11, 7), nn.Flatten(), nn.Linear(21, 3)),
        lambda rows: torch.randint(0, 11, (rows, 3)),
    ),
    "convolutions of one element": (
        lambda: nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU(), nn.Conv2d(5, 3, 1)), of(3, 7, 7)
    ),
    "convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 5, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 3, 1), nn.Flatten(), nn.Linear(12, 3)
        ),
        of(3, 7, 7),
    ),
}  # fmt: skip


def model_of(name: str) -> nn.Module:
    """A model whose biases are not zero."""
    model = MODELS[name][0]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2)
    return model
