"""PyTorch's recurrent modules, recorded as one operation for each layer and direction."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from fedplan.errors import TraceError
from fedplan.plan.recurrence.interception import RecurrentLayers
from tests.plan.recurrence.cases import KINDS, Layers, assert_near, gradients, modules, recorded, run


class TestTheResultsArePyTorchs:
    @pytest.mark.parametrize("layers", modules(), ids=str)
    def test_forward_and_all_gradients(self, layers: Layers) -> None:
        module, inputs = layers.module(), [value.requires_grad_() for value in layers.inputs()]
        expected = run(module, *inputs)
        with RecurrentLayers():
            made = run(module, *inputs)
        for mine, theirs in zip(made, expected, strict=True):
            assert_near(mine, theirs)
        pairs = zip(gradients(made, module, inputs), gradients(expected, module, inputs), strict=True)
        for mine, theirs in pairs:
            assert_near(mine, theirs)

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_derivative_by_differences(self, kind: str) -> None:
        layers = Layers(kind, 2, bidirectional=True, steps=3, rows=2)
        module, inputs = layers.module(), [value.requires_grad_() for value in layers.inputs()]
        names = [name for name, _ in module.named_parameters()]

        def function(*given: torch.Tensor) -> tuple[torch.Tensor, ...]:
            values, parameters = given[: len(inputs)], dict(zip(names, given[len(inputs) :], strict=True))
            states: Any = values[1:] if len(values) > 2 else values[1]
            with RecurrentLayers():
                y, last = torch.func.functional_call(module, parameters, (values[0], states))
            return (y, last) if isinstance(last, torch.Tensor) else (y, *last)

        assert torch.autograd.gradcheck(function, (*inputs, *module.parameters()), fast_mode=True)


class TestOneOperationForALayerAndDirection:
    @pytest.mark.parametrize("kind", KINDS)
    def test_with_its_gradient_and_for_any_batch(self, kind: str) -> None:
        layers = Layers(kind, 2, bidirectional=True, batch_first=True, states=False)
        module = layers.module()

        def step(x: torch.Tensor) -> Sequence[torch.Tensor]:
            results = run(module, x)
            return [*results, *gradients(results, module, [])]

        made = recorded(step, *layers.inputs())
        assert made.operations == [f"fedplan.{kind}.default"] * 4 + [f"fedplan.{kind}_backward.default"] * 4
        for rows in (1, 3, 8):
            (x,) = layers.inputs(rows)
            for mine, theirs in zip(made(x), step(x), strict=True):
                assert_near(mine, theirs)

    def test_the_number_of_nodes_does_not_grow_with_the_steps(self) -> None:
        counts = []
        for steps in (3, 80):
            layers = Layers("gru", batch_first=True, steps=steps, states=False)
            module = layers.module()
            step = lambda x, module=module: gradients(run(module, x), module, [])  # noqa: E731
            counts.append(recorded(step, *layers.inputs()).length)
        assert counts[0] == counts[1] < 60

    @pytest.mark.parametrize("cell", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
    def test_a_cell_stays_what_it_is(self, cell: Any) -> None:
        module = cell(3, 5)
        made = recorded(lambda x: [*module(x)] if cell is nn.LSTMCell else [module(x)], torch.randn(2, 3))
        assert made.operations == []

    def test_saved_tensors_do_not_ask_for_gradients(self) -> None:
        x, h, w = torch.randn(3, 2, 4), torch.zeros(2, 5), torch.randn(15, 4, requires_grad=True)
        y, h_n, gates, candidate = torch.ops.fedplan.gru(x, h, w, torch.randn(15, 5))
        assert y.requires_grad
        assert h_n.requires_grad
        assert not gates.requires_grad
        assert not candidate.requires_grad


class TestDropoutBetweenLayers:
    """It is PyTorch's dropout function, so that whoever traces may say what it becomes."""

    def test_in_train_mode_every_layer_but_the_last_has_it(self) -> None:
        seen: list[tuple[float, bool]] = []

        class Noted(TorchFunctionMode):
            def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                if func is F.dropout:
                    seen.append((kwargs["p"], kwargs["training"]))
                return func(*args, **(kwargs or {}))

        module = nn.GRU(3, 5, 3, dropout=0.4)
        with Noted(), RecurrentLayers():
            module(torch.randn(4, 2, 3))
        assert seen == [(0.4, True)] * 2

    def test_the_next_layer_gets_what_is_left(self) -> None:
        module, x = nn.GRU(3, 5, 2, dropout=0.4), torch.randn(4, 2, 3)
        first, second = nn.GRU(3, 5), nn.GRU(5, 5)
        for layer, number in ((first, 0), (second, 1)):
            layer.load_state_dict(
                {name: getattr(module, f"{name[:-1]}{number}") for name in layer.state_dict()}
            )
        torch.manual_seed(3)
        with RecurrentLayers():
            made, _ = module(x)
        torch.manual_seed(3)
        expected, _ = second(F.dropout(first(x)[0], 0.4))
        assert_near(made, expected)

    def test_in_eval_mode_there_is_none(self) -> None:
        module, x = nn.GRU(3, 5, 2, dropout=0.4).eval(), torch.randn(4, 2, 3)
        with RecurrentLayers():
            made, _ = module(x)
        assert_near(made, module(x)[0])


class TestWhatIsRefused:
    def test_weights_that_do_not_fit(self) -> None:
        weights = list(nn.GRU(3, 5).parameters())
        with RecurrentLayers(), pytest.raises(TraceError, match="3 weights do not fit 1 recurrent layers"):
            torch.gru(
                torch.randn(4, 2, 3), torch.zeros(1, 2, 5), weights[:3], True, 1, 0.0, False, False, False
            )

    def test_an_input_without_a_batch(self) -> None:
        weights = list(nn.GRU(3, 5).parameters())
        with RecurrentLayers(), pytest.raises(TraceError, match="the input has 2 dimensions"):
            torch.gru(torch.randn(4, 3), torch.zeros(1, 2, 5), weights, True, 1, 0.0, False, False, False)

    def test_the_gradient_of_a_gradient(self) -> None:
        module, x = nn.GRU(3, 5), torch.randn(4, 2, 3, requires_grad=True)
        with RecurrentLayers():
            y, _ = module(x)
        (gradient,) = torch.autograd.grad(y.sum(), [x], create_graph=True)
        with pytest.raises(NotImplementedError, match="for second derivatives write the steps with"):
            torch.autograd.grad(gradient.square().sum(), [x])


def test_pytorchs_layers_are_as_before_when_the_mode_has_ended() -> None:
    before = nn.RNNBase.get_expected_hidden_size, nn.LSTM.get_expected_cell_size
    with RecurrentLayers(), pytest.raises(ZeroDivisionError):
        1 / 0  # noqa: B018
    assert before == (nn.RNNBase.get_expected_hidden_size, nn.LSTM.get_expected_cell_size)


def test_the_mode_may_be_entered_twice() -> None:
    before = nn.RNNBase.get_expected_hidden_size
    module, x = nn.GRU(3, 5), torch.randn(4, 2, 3)
    with RecurrentLayers(), RecurrentLayers():
        made, _ = module(x)
    assert_near(made, module(x)[0])
    assert before is nn.RNNBase.get_expected_hidden_size


def test_positional_and_named_arguments_are_the_same() -> None:
    weights = list(nn.GRU(3, 5).parameters())
    x, h = torch.randn(4, 2, 3), torch.zeros(1, 2, 5)
    names = ("has_biases", "num_layers", "dropout", "train", "bidirectional", "batch_first")
    values = (True, 1, 0.0, False, False, False)
    with RecurrentLayers():
        made = [
            torch.gru(x, h, weights, *values[:count], **dict(zip(names[count:], values[count:], strict=True)))
            for count in (6, 3, 0)
        ]
    assert all(torch.equal(y, made[0][0]) for y, _ in made)
