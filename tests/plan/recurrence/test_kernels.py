"""The fast functions compute what the reference defines."""

import itertools
from typing import Any

import pytest
import torch

from fedplan.plan.ops.executor import has_onednn
from fedplan.plan.recurrence import onednn, reference
from fedplan.plan.recurrence.kernels import FAST
from fedplan.plan.recurrence.products import tanh
from fedplan.plan.recurrence.schema import RECURRENCES
from tests.plan.recurrence.cases import KINDS, Case, assert_near, grid

GRADIENTS = [g for g in itertools.product((True, False), repeat=3) if any(g)]


class TestFast:
    @pytest.mark.some(12)
    @pytest.mark.parametrize("case", grid(torch.float32, torch.float64), ids=str)
    def test_results(self, case: Case) -> None:
        given = case.arguments()
        made, expected = FAST[case.kind].call(*given), getattr(reference, case.kind)(*given)
        for mine, theirs in zip(made, expected, strict=True):
            assert_near(mine, theirs)
            assert mine.is_contiguous()

    @pytest.mark.some(12)
    @pytest.mark.parametrize("case", grid(torch.float32, torch.float64), ids=str)
    def test_gradients(self, case: Case) -> None:
        name, given = f"{case.kind}_backward", case.backward_arguments()
        made, expected = FAST[name].call(*given), getattr(reference, name)(*given)
        for mine, theirs in zip(made, expected, strict=True):
            assert_near(mine, theirs)
            assert mine.is_contiguous()

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("with_gradients", GRADIENTS, ids=str)
    def test_some_results_have_no_gradient(self, kind: str, with_gradients: tuple[bool, ...]) -> None:
        name, given = f"{kind}_backward", Case(kind).backward_arguments(with_gradients)
        for mine, theirs in zip(FAST[name].call(*given), getattr(reference, name)(*given), strict=True):
            assert_near(mine, theirs)

    @pytest.mark.parametrize("name", FAST)
    def test_arguments_stay_as_they_are(self, name: str) -> None:
        case = Case(name.removesuffix("_backward"))
        given = case.arguments() if name in KINDS else case.backward_arguments()
        before = [value.clone() if isinstance(value, torch.Tensor) else value for value in given]
        made = FAST[name].call(*given)
        for mine, theirs in zip(given, before, strict=True):
            assert torch.equal(mine, theirs) if isinstance(mine, torch.Tensor) else mine == theirs
        memory = {value.untyped_storage().data_ptr() for value in made if value.numel()}
        assert len(memory) == sum(value.numel() > 0 for value in made)
        tensors = [value for value in given if isinstance(value, torch.Tensor)]
        assert not memory & {value.untyped_storage().data_ptr() for value in tensors}

    @pytest.mark.parametrize("name", FAST)
    def test_arguments_need_not_be_contiguous(self, name: str) -> None:
        case = Case(name.removesuffix("_backward"), steps=4, rows=3)
        given = case.arguments() if name in KINDS else case.backward_arguments()
        turned = [
            value.mT.contiguous().mT if isinstance(value, torch.Tensor) and value.dim() > 1 else value
            for value in given
        ]
        for mine, theirs in zip(FAST[name].call(*turned), FAST[name].call(*given), strict=True):
            assert_near(mine, theirs)

    @pytest.mark.parametrize("name", FAST)
    def test_a_batch_of_none(self, name: str) -> None:
        case = Case(name.removesuffix("_backward"), rows=0)
        given = case.arguments() if name in KINDS else case.backward_arguments()
        for mine, theirs in zip(FAST[name].call(*given), getattr(reference, name)(*given), strict=True):
            assert_near(mine, theirs)

    @pytest.mark.parametrize("size", [10, 5000])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_tanh(self, size: int, dtype: torch.dtype) -> None:
        value = torch.linspace(-30, 30, size, dtype=dtype)
        expected = value.tanh()
        torch.testing.assert_close(tanh(value, torch.empty_like(value)), expected, rtol=0, atol=2e-7)
        torch.testing.assert_close(tanh(value, value), expected, rtol=0, atol=2e-7)


def plain_lstms() -> list[Case]:
    """What oneDNN has an LSTM for."""
    return [c for c in grid(torch.float32) if c.kind == "lstm" and not c.lengths and not c.projected]


@pytest.mark.skipif(not has_onednn(), reason="this PyTorch has no oneDNN")
class TestOneDnn:
    @pytest.mark.parametrize("case", plain_lstms(), ids=str)
    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_results_and_gradients(self, case: Case, mode: Any) -> None:
        given = case.arguments()
        assert onednn.can_compute(given[0])
        expected = reference.lstm(*given)
        of_reference = case.backward_arguments()
        with mode():
            y, h_n, c_n, *saved = onednn.lstm(*given)
            *data, lengths, reverse = of_reference
            place = RECURRENCES["lstm_backward"].names.index("y")
            made = onednn.lstm_backward(*data[:place], y, *saved, None, lengths, reverse)
        for mine, theirs in zip((y, h_n, c_n), expected, strict=False):
            assert_near(mine, theirs)
        for mine, theirs in zip(made, reference.lstm_backward(*of_reference), strict=True):
            assert_near(mine, theirs)
            assert mine.is_contiguous()

    @pytest.mark.parametrize("with_gradients", GRADIENTS, ids=str)
    def test_some_results_have_no_gradient(self, with_gradients: tuple[bool, ...]) -> None:
        case = Case("lstm", dtype=torch.float32)
        given = case.backward_arguments(with_gradients)
        y, _, _, *saved = onednn.lstm(*case.arguments())
        place = RECURRENCES["lstm_backward"].names.index("y")
        made = onednn.lstm_backward(*given[:place], y, *saved, None, None, False)
        for mine, theirs in zip(made, reference.lstm_backward(*given), strict=True):
            assert_near(mine, theirs)

    def test_parameters_that_ask_for_gradients_get_no_history(self) -> None:
        given = [
            v.requires_grad_() if isinstance(v, torch.Tensor) else v
            for v in Case("lstm", dtype=torch.float32).arguments()
        ]
        with torch.no_grad():
            assert not any(value.requires_grad for value in onednn.lstm(*given))

    def test_other_numbers_are_left_to_others(self) -> None:
        assert not onednn.can_compute(torch.zeros(2, 3, 4, dtype=torch.float64))
        assert not onednn.can_compute(torch.zeros(2, 0, 4))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_fast_and_reference_on_cuda(kind: str) -> None:
    def moved(values: list[Any]) -> list[Any]:
        return [value.cuda() if isinstance(value, torch.Tensor) else value for value in values]

    for case in [case for case in grid(torch.float64) if case.kind == kind]:
        for name, given in ((kind, case.arguments()), (f"{kind}_backward", case.backward_arguments())):
            expected = getattr(reference, name)(*given)
            for function in (FAST[name].call, getattr(reference, name), getattr(torch.ops.fedplan, name)):
                for mine, theirs in zip(function(*moved(given)), expected, strict=True):
                    assert mine.is_cuda
                    assert_near(mine.cpu(), theirs)
