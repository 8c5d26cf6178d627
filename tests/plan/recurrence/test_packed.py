"""Packed sequences, recorded with their lengths as a tensor."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from fedplan.errors import TraceError
from fedplan.plan.recurrence.interception import RecurrentLayers
from tests.plan.recurrence.cases import KINDS, LAYERS, assert_near, recorded

STEPS = 4
SORTED, SHUFFLED = torch.tensor([4, 2, 1]), torch.tensor([2, 4, 1])


class Tagger(nn.Module):
    """Recurrent layers over packed sequences."""

    def __init__(self, kind: str, batch_first: bool = True, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.recurrent = LAYERS[kind](
            3, 5, 2, bidirectional=True, batch_first=batch_first, dtype=torch.float64
        )
        self.batch_first = batch_first
        self.sorted = options.pop("enforce_sorted", True)
        self.options = {"total_length": STEPS, **options}

    def forward(self, x: torch.Tensor, lengths: torch.Tensor, *states: torch.Tensor) -> list[torch.Tensor]:
        packed = pack_padded_sequence(x, lengths, batch_first=self.batch_first, enforce_sorted=self.sorted)
        given: Any = states if len(states) > 1 else states[0] if states else None
        y, last = self.recurrent(packed, given)
        padded, counts = pad_packed_sequence(y, batch_first=self.batch_first, **self.options)
        return [padded, counts, *([last] if isinstance(last, torch.Tensor) else last)]


def batch(rows: int = 3, batch_first: bool = True) -> torch.Tensor:
    shape = (rows, STEPS, 3) if batch_first else (STEPS, rows, 3)
    return torch.randn(shape, generator=torch.Generator().manual_seed(rows), dtype=torch.float64)


def states(kind: str, rows: int = 3) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    count = 2 if kind == "lstm" else 1
    return [torch.randn(4, rows, 5, generator=random, dtype=torch.float64) for _ in range(count)]


def gradients_of(results: list[torch.Tensor], model: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    floats = [value for value in results if value.is_floating_point()]
    total = torch.stack([value.square().sum() for value in floats]).sum()
    return torch.autograd.grad(total, [x, *model.parameters()])


class TestTheResultsArePyTorchs:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(("lengths", "is_sorted"), [(SORTED, True), (SORTED, False), (SHUFFLED, False)])
    @pytest.mark.parametrize("given", [False, True], ids=["from zeros", "from states"])
    def test_forward_and_all_gradients(
        self, kind: str, lengths: torch.Tensor, is_sorted: bool, given: bool
    ) -> None:
        model, x = Tagger(kind, enforce_sorted=is_sorted), batch().requires_grad_()
        first = states(kind) if given else []
        expected = model(x, lengths, *first)
        with RecurrentLayers():
            made = model(x, lengths, *first)
        for mine, theirs in zip(made, expected, strict=True):
            assert torch.allclose(mine, theirs, rtol=0, atol=1e-12)
        pairs = zip(gradients_of(made, model, x), gradients_of(expected, model, x), strict=True)
        for mine, theirs in pairs:
            assert_near(mine, theirs)

    @pytest.mark.parametrize("options", [{"padding_value": -7.0}, {"total_length": 6}], ids=str)
    @pytest.mark.parametrize("batch_first", [False, True])
    def test_options_of_padding(self, options: Any, batch_first: bool) -> None:
        model, x = Tagger("gru", batch_first, **options), batch(batch_first=batch_first)
        with RecurrentLayers():
            made = model(x, SORTED)
        for mine, theirs in zip(made, model(x, SORTED), strict=True):
            assert torch.allclose(mine, theirs, rtol=0, atol=1e-12)

    def test_what_stands_beyond_a_sequences_end_has_no_influence(self) -> None:
        model, x = Tagger("lstm"), batch()
        spoilt = x.clone()
        spoilt[1, 2:] = float("nan")
        with RecurrentLayers():
            clean, (made, *_) = model(x, SORTED)[0], model(spoilt.requires_grad_(), SORTED)
        assert torch.equal(made, clean)
        (gradient,) = torch.autograd.grad(made.sum(), [spoilt])
        assert gradient.isfinite().all()
        assert not gradient[1, 2:].any()


class TestLengthsAreData:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("is_sorted", [True, False])
    def test_one_recording_serves_all_lengths_and_batches(self, kind: str, is_sorted: bool) -> None:
        model = Tagger(kind, enforce_sorted=is_sorted)

        def step(x: torch.Tensor, lengths: torch.Tensor) -> list[torch.Tensor]:
            results = model(x, lengths)
            total = results[0].square().sum()
            return [*results, *torch.autograd.grad(total, list(model.parameters()))]

        made = recorded(step, batch(), SORTED if is_sorted else SHUFFLED)
        assert made.operations == [f"fedplan.{kind}.default"] * 4 + [f"fedplan.{kind}_backward.default"] * 4
        for lengths in ([1], [4, 4, 3, 2, 1, 1], [3, 2]):
            x, given = batch(len(lengths)), torch.tensor(lengths)
            for mine, theirs in zip(made(x, given), step(x, given), strict=True):
                assert torch.allclose(mine, theirs, rtol=0, atol=1e-9)

    def test_with_given_states_too(self) -> None:
        model = Tagger("lstm")

        def function(x: torch.Tensor, lengths: torch.Tensor, *first: torch.Tensor) -> list[torch.Tensor]:
            return model(x, lengths, *(state.transpose(0, 1) for state in first))

        turned = [[state.transpose(0, 1) for state in states("lstm", rows)] for rows in (3, 5)]
        made = recorded(function, batch(), SORTED, *turned[0])
        given = (batch(5), torch.tensor([4, 4, 3, 2, 1]), *turned[1])
        for mine, theirs in zip(made(*given), function(*given), strict=True):
            assert torch.allclose(mine, theirs, rtol=0, atol=1e-12)

    def test_the_result_has_the_steps_of_the_padded_tensor(self) -> None:
        # PyTorch cuts them to the longest sequence, which a recording does not know
        model = Tagger("gru", total_length=None)
        x, short = batch(), torch.tensor([2, 2, 1])
        made = recorded(model, x, SORTED)(x, short)
        expected = model(x, short)
        assert made[0].shape == (3, STEPS, 10)
        assert expected[0].shape == (3, 2, 10)
        assert torch.allclose(made[0][:, :2], expected[0], rtol=0, atol=1e-12)
        assert not made[0][:, 2:].any()

    def test_the_order_is_not_asked_for(self) -> None:
        x = batch()
        made = recorded(Tagger("gru"), x, SORTED)(x, SHUFFLED)
        expected = Tagger("gru", enforce_sorted=False)(x, SHUFFLED)
        assert torch.allclose(made[0], expected[0], rtol=0, atol=1e-12)


class TestPackedRowsHaveNoContents:
    @pytest.mark.parametrize(
        "use",
        [
            lambda packed: packed.data * 2,
            lambda packed: packed.data.mean(),
            lambda packed: torch.relu(packed.data),
            lambda packed: nn.functional.mse_loss(packed.data, packed.data),
            lambda packed: packed.batch_sizes.sum(),
            lambda packed: packed.to(torch.float32),
            lambda packed: packed.data[0],
            lambda packed: packed.batch_sizes[1],
        ],
        ids=["product", "mean", "relu", "loss", "batch sizes", "conversion", "row", "second size"],
    )
    def test_they_refuse_to_be_computed_with(self, use: Any) -> None:
        def function(x: torch.Tensor, lengths: torch.Tensor) -> Any:
            return [use(pack_padded_sequence(x, lengths, batch_first=True))]

        with pytest.raises(TraceError, match="leave padding out of the loss with a mask"):
            recorded(function, batch(), SORTED)

    def test_rows_that_were_packed_by_hand_are_refused(self) -> None:
        with RecurrentLayers(), pytest.raises(TraceError, match="that pack_padded_sequence did not make"):
            pad_packed_sequence(PackedSequence(torch.randn(7, 3), torch.tensor([3, 3, 1])))

    def test_a_shorter_padding_is_refused(self) -> None:
        with RecurrentLayers(), pytest.raises(ValueError, match="total_length"):
            Tagger("gru", total_length=2)(batch(), torch.tensor([2, 1, 1]))

    def test_rows_of_many_dimensions_are_refused(self) -> None:
        def function(x: torch.Tensor, lengths: torch.Tensor) -> Any:
            packed = pack_padded_sequence(x, lengths, batch_first=True)
            return torch.gru(
                packed.data, packed.batch_sizes, torch.zeros(1, 3, 5), list(nn.GRU(3, 5).parameters()),
                True, 1, 0.0, False, False,
            )  # fmt: skip

        with RecurrentLayers(), pytest.raises(TraceError, match="rows of 2 dimensions are packed"):
            function(torch.randn(3, 4, 3, 3), SORTED)

    def test_lengths_of_two_dimensions_are_refused(self) -> None:
        with RecurrentLayers(), pytest.raises(TraceError, match="and lengths 2"):
            pack_padded_sequence(batch(), SORTED.reshape(1, 3), batch_first=True)
