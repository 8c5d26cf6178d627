"""The model families that fedplan promises to trace, each with a maker of batches."""

import dataclasses
import functools
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

Batch = tuple[torch.Tensor, torch.Tensor]
Optimizer = Callable[..., torch.optim.Optimizer]


def sgd(**settings: float | bool) -> Optimizer:
    return functools.partial(torch.optim.SGD, lr=0.1, **settings)


@dataclasses.dataclass(frozen=True)
class Family:
    model: Callable[[], nn.Module]
    batch: Callable[[int], Batch]
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = F.cross_entropy
    optimizer: Optimizer = dataclasses.field(default_factory=sgd)
    clip_norm: float | None = None
    clip_value: float | None = None
    sizes: tuple[int, ...] = (4, 7)


def classes(rows: int) -> torch.Tensor:
    return torch.randint(0, 3, (rows,))


def vectors(rows: int) -> Batch:
    return torch.randn(rows, 6), classes(rows)


def images(rows: int) -> Batch:
    return torch.randn(rows, 1, 8, 8), classes(rows)


def sequences(rows: int) -> Batch:
    return torch.randn(rows, 3, 6), classes(rows)


def words(rows: int) -> Batch:
    return torch.randint(0, 10, (rows, 5)), classes(rows)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.GELU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 3),
    )


def cnn_with_other_layers() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, groups=1, bias=False),
        nn.GroupNorm(2, 4),
        nn.Tanh(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.SiLU(),
        nn.Linear(16, 8),
        nn.LeakyReLU(),
        nn.Linear(8, 3),
        nn.Softplus(),
    )


class EmbeddingAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 8)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.out = nn.Linear(8, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        h = self.embed(tokens)  # (batch, words, 8)
        h = self.norm(h + self.attend(h, h, h, need_weights=False)[0])
        return self.out(h.mean(dim=1))


class UnrolledLSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(6, 5)
        self.out = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = c = x.new_zeros(x.shape[0], 5)
        for step in range(x.shape[1]):
            h, c = self.cell(x[:, step], (h, c))
        return self.out(h)


class LSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(6, 5, num_layers=2, bidirectional=True, batch_first=True)
        self.out = nn.Linear(10, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.rnn(x)[0].mean(dim=1))


class GRU(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(6, 5, batch_first=True)
        self.out = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.rnn(x)[0][:, -1])


def scores(rows: int) -> Batch:
    return torch.randn(rows, 6), torch.rand(rows)


def regressor() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 1), nn.Flatten(0))


FAMILIES: dict[str, Family] = {
    "softmax regression": Family(lambda: nn.Linear(6, 3), vectors),
    "MLP": Family(mlp, vectors, sizes=(4, 7, 1)),
    "MLP, momentum": Family(mlp, vectors, optimizer=sgd(momentum=0.9)),
    "MLP, Nesterov momentum and weight decay": Family(
        mlp, vectors, optimizer=sgd(momentum=0.9, nesterov=True, weight_decay=0.01)
    ),
    "MLP, Adam": Family(mlp, vectors, optimizer=functools.partial(torch.optim.Adam, lr=0.01)),
    "MLP, AdamW": Family(mlp, vectors, optimizer=functools.partial(torch.optim.AdamW, lr=0.01)),
    "MLP, gradients clipped by norm": Family(mlp, vectors, clip_norm=0.1),
    "MLP, gradients clipped by value": Family(mlp, vectors, clip_value=0.01),
    "MLP, label smoothing": Family(
        mlp, vectors, loss=functools.partial(F.cross_entropy, label_smoothing=0.1)
    ),
    "CNN with batch norm": Family(cnn, images, sizes=(4, 7, 1)),
    "CNN with other layers": Family(cnn_with_other_layers, images, sizes=(4, 7, 1)),
    "embedding, attention, layer norm": Family(EmbeddingAttention, words, sizes=(4, 7, 1)),
    "LSTM cell": Family(UnrolledLSTM, sequences, sizes=(4, 7, 1)),
    "LSTM": Family(LSTM, sequences, sizes=(4, 7, 1)),
    "GRU": Family(GRU, sequences),
    "transformer layer": Family(
        lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True),
        lambda rows: (torch.randn(rows, 5, 8), torch.randn(rows, 5, 8)),
        loss=F.mse_loss,
    ),
    "logistic regression": Family(regressor, scores, loss=F.binary_cross_entropy_with_logits),
    "Huber loss": Family(regressor, scores, loss=F.smooth_l1_loss),
}
