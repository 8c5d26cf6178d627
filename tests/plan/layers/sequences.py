"""The layers of `torch.nn` that work on words and sequences."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from tests.plan.layers.layer import FEATURES, HIDDEN, NO_YES, SENTENCE, STEPS, Table

SEQUENCES = Table()
layer = SEQUENCES.add

# Words

EMBEDDING = {
    "embedding_dim": (HIDDEN,),
    "max_norm": (None, 1.0),
    "norm_type": (2.0, 1.0),
    "scale_grad_by_freq": NO_YES,
    "sparse": NO_YES,
}
layer("Embedding", (STEPS,), words=7, num_embeddings=(7,), padding_idx=(None, 0, -1), **EMBEDDING)
layer(
    "EmbeddingBag",
    (STEPS,),
    words=7,
    num_embeddings=(7,),
    padding_idx=(None, 0),
    mode=("mean", "sum", "max"),
    **EMBEDDING,
)

# Recurrence


def along(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """All that a recurrent layer says of a batch, (batch, steps, hidden)."""
    if layer.batch_first:
        return layer(x)[0]
    return layer(x.transpose(0, 1))[0].transpose(0, 1)


def last_state(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What is left after the last step."""
    h = x.new_zeros(x.shape[0], layer.hidden_size)
    state: Any = (h, h) if isinstance(layer, nn.LSTMCell) else h
    for step in range(x.shape[1]):
        state = layer(x[:, step], state)
    return state[0] if isinstance(state, tuple) else state


CELL = {"input_size": (FEATURES,), "hidden_size": (HIDDEN, 1), "bias": (True, False)}
LAYERED = {
    **CELL,
    "num_layers": (1, 2),
    "batch_first": (True, False),
    "dropout": (0.0, 0.5),
    "bidirectional": NO_YES,
}
layer("RNN", SENTENCE, nonlinearity=("tanh", "relu"), **LAYERED, call=along)
layer("GRU", SENTENCE, **LAYERED, call=along)
layer("LSTM", SENTENCE, proj_size=(0, 2), **LAYERED, call=along)
layer("RNNCell", SENTENCE, nonlinearity=("tanh", "relu"), **CELL, call=last_state)
layer("GRUCell", SENTENCE, **CELL, call=last_state)
layer("LSTMCell", SENTENCE, **CELL, call=last_state)

# Attention


def attend(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A sequence looks at itself, or at parts of it where keys and values are shorter."""
    x = x if layer.batch_first else x.transpose(0, 1)
    made = layer(x, x[..., : layer.kdim], x[..., : layer.vdim])[0]
    return made if layer.batch_first else made.transpose(0, 1)


def read(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """One sequence, batch first."""
    return layer(x)


def read_both(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A target and what it looks back on, batch first."""
    return layer(x[:, 1:], x)


layer(
    "MultiheadAttention",
    SENTENCE,
    embed_dim=(FEATURES,),
    num_heads=(2, 1, 3),
    dropout=(0.0, 0.3),
    bias=(True, False),
    add_bias_kv=NO_YES,
    add_zero_attn=NO_YES,
    kdim=(None, 4),
    vdim=(None, 5),
    batch_first=(True, False),
    call=attend,
)
BLOCK = {
    "d_model": (FEATURES,),
    "nhead": (2, 1),
    "dim_feedforward": (8,),
    "dropout": (0.1, 0.0),
    "activation": ("relu", "gelu", F.silu),
    "norm_first": NO_YES,
    "layer_norm_eps": (1e-5, 1e-2),
    "bias": (True, False),
    "batch_first": (True,),
}


def stack(whole: Callable[..., nn.Module], part: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    return lambda num_layers, **options: whole(part(**options), num_layers)


layer("TransformerEncoderLayer", SENTENCE, **BLOCK, call=read)
layer("TransformerDecoderLayer", SENTENCE, **BLOCK, call=read_both)
layer(
    "TransformerEncoder",
    SENTENCE,
    num_layers=(1, 2),
    **BLOCK,
    make=stack(nn.TransformerEncoder, nn.TransformerEncoderLayer),
    call=read,
)
layer(
    "TransformerDecoder",
    SENTENCE,
    num_layers=(1, 2),
    **BLOCK,
    make=stack(nn.TransformerDecoder, nn.TransformerDecoderLayer),
    call=read_both,
)
layer(
    "Transformer",
    SENTENCE,
    num_encoder_layers=(1, 2),
    num_decoder_layers=(1, 2),
    **BLOCK,
    call=lambda layer, x: layer(x, x[:, 1:]),
)
