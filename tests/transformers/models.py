"""Hugging Face models: small, with the settings that they have by default, dropout included."""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import transformers

Batch = dict[str, Tensor]
"""A model's arguments by name, labels among them."""

WORDS, LENGTH = 100, 12


@dataclasses.dataclass(frozen=True)
class Case:
    """A model, and data for it.

    Attributes:
        make: the model, in train mode, with random weights.
        data: number of samples → a batch.
    """

    make: Callable[[], nn.Module]
    data: Callable[[int], Batch]


def _model(kind: str, config: str, **sizes: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        torch.manual_seed(0)
        model: nn.Module = getattr(transformers, kind)(getattr(transformers, config)(**sizes))
        return model.train()

    return make


def _text(rows: int) -> Batch:
    words = torch.randint(3, WORDS, (rows, LENGTH))
    lengths = torch.randint(LENGTH // 2, LENGTH + 1, (rows, 1))
    mask = (torch.arange(LENGTH) < lengths).long()
    return {"input_ids": words, "attention_mask": mask}


def _classified_text(rows: int) -> Batch:
    return {**_text(rows), "labels": torch.randint(0, 3, (rows,))}


def _continued_text(rows: int) -> Batch:
    text = _text(rows)
    return {**text, "labels": text["input_ids"].masked_fill(text["attention_mask"] == 0, -100)}


def _translated_text(rows: int) -> Batch:
    return {**_text(rows), "labels": torch.randint(3, WORDS, (rows, 7))}


def _pictures(rows: int) -> Batch:
    return {"pixel_values": torch.randn(rows, 3, 32, 32), "labels": torch.randint(0, 5, (rows,))}


class LowRank(nn.Module):
    """A layer that stays as it is, and beside it a product of two small matrices that is trained (LoRA)."""

    def __init__(self, base: nn.Module, inputs: int, outputs: int, rank: int = 4) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Linear(inputs, rank, bias=False)
        self.up = nn.Linear(rank, outputs, bias=False)
        nn.init.zeros_(self.up.weight)
        self.dropout = nn.Dropout(0.05)

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.up(self.down(self.dropout(x)))
        base: Tensor = self.base(x)
        return base + 2 * added


def _gpt() -> nn.Module:
    return _model("GPT2LMHeadModel", "GPT2Config", vocab_size=WORDS, n_embd=32, n_layer=2, n_head=2)()


def _adapted_gpt() -> nn.Module:
    model: Any = _gpt().requires_grad_(False)
    for block in model.transformer.h:
        block.attn.c_attn = LowRank(block.attn.c_attn, 32, 96)
    return model


CASES = {
    "BERT": Case(
        _model(
            "BertForSequenceClassification", "BertConfig", vocab_size=WORDS, hidden_size=32,
            num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, num_labels=3,
        ),
        _classified_text,
    ),
    "GPT-2": Case(_gpt, _continued_text),
    "ViT": Case(
        _model(
            "ViTForImageClassification", "ViTConfig", hidden_size=32, num_hidden_layers=2,
            num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8, num_labels=5,
        ),
        _pictures,
    ),
    "Llama": Case(
        _model(
            "LlamaForCausalLM", "LlamaConfig", vocab_size=WORDS, hidden_size=32, num_hidden_layers=2,
            num_attention_heads=2, intermediate_size=64,
        ),
        _continued_text,
    ),
    "T5": Case(
        _model(
            "T5ForConditionalGeneration", "T5Config", vocab_size=WORDS, d_model=32, d_kv=16, d_ff=64,
            num_layers=2, num_heads=2, decoder_start_token_id=0,
        ),
        _translated_text,
    ),
    "LoRA on GPT-2": Case(_adapted_gpt, _continued_text),
}  # fmt: skip
