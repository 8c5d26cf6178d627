"""What a smaller report loses goes into the next one."""

import pytest
import torch

from fedplan.client import SyftModel
from fedplan.client.training.compression import DiffCompressor, negotiate
from fedplan.errors import ConfigError
from fedplan.plan import to_torch
from fedplan.wire import State
from fedplan.wire.compression import FORMATS, decompress


def arrived(data: bytes, model: SyftModel) -> list[torch.Tensor]:
    """What the grid makes of a report."""
    shapes = [tuple(param.shape) for param in model.params]
    return [to_torch(tensor) for tensor in decompress(State.parse(data), shapes, FORMATS)]


def random_diff(seed: int) -> SyftModel:
    generator = torch.Generator().manual_seed(seed)
    return SyftModel([torch.randn(30, 20, generator=generator), torch.randn(7, generator=generator)])


@pytest.mark.parametrize("format", FORMATS)
def test_over_many_reports_nothing_is_lost_but_what_the_last_one_kept(format: str) -> None:
    compressor = DiffCompressor(format, fraction=0.05)
    wanted = [torch.zeros(30, 20), torch.zeros(7)]
    sent = [torch.zeros(30, 20), torch.zeros(7)]
    for seed in range(30):
        diff = random_diff(seed)
        data = compressor.compress(diff)
        compressor.sent()
        wanted = [total + part for total, part in zip(wanted, diff.params, strict=True)]
        sent = [total + part for total, part in zip(sent, arrived(data, diff), strict=True)]
    for total, part, kept in zip(wanted, sent, compressor._kept, strict=True):
        torch.testing.assert_close(part + kept, total, rtol=1e-4, atol=1e-4)


def test_what_was_not_sent_is_not_forgotten_either() -> None:
    """A report that failed leaves what is kept as it was: the next one does not count it twice."""
    compressor = DiffCompressor("topk", fraction=0.5)
    compressor.compress(SyftModel([torch.tensor([1.0, 3.0])]))
    compressor.sent()  # 1 is kept
    compressor.compress(SyftModel([torch.tensor([0.0, 9.0])]))  # this one never arrives
    data = compressor.compress(SyftModel([torch.tensor([1.5, 0.0])]))
    (tensor,) = arrived(data, SyftModel([torch.zeros(2)]))
    assert tensor.tolist() == [2.5, 0.0]


def test_another_model_starts_anew() -> None:
    compressor = DiffCompressor("topk", fraction=0.5)
    compressor.compress(SyftModel([torch.tensor([1.0, 3.0])]))
    compressor.sent()
    other = SyftModel([torch.tensor([1.0, 2.0, 4.0, 0.5])])
    assert arrived(compressor.compress(other), other)[0].tolist() == [0.0, 2.0, 4.0, 0.0]


@pytest.mark.parametrize(
    ("offered", "wanted", "chosen"),
    [
        (None, None, None),
        ([], None, None),
        (["int8", "topk"], None, "int8"),
        (["int8", "topk"], "topk", "topk"),
        (["int8"], "float32", None),
        (["from the future", "int8"], None, "int8"),
        ("int8", None, None),
    ],
)
def test_a_worker_reports_as_it_wants_or_as_the_owner_prefers(
    offered: object, wanted: str | None, chosen: str | None
) -> None:
    assert negotiate({"report_formats": offered}, wanted) == chosen


def test_a_form_that_the_model_does_not_take_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not take diffs as topk; it takes float32, int8"):
        negotiate({"report_formats": ["int8"]}, "topk")


@pytest.mark.parametrize(("format", "fraction"), [("int4", 0.1), ("topk", 0.0), ("topk", 1.5)])
def test_settings_that_make_no_sense_are_refused(format: str, fraction: float) -> None:
    with pytest.raises(ConfigError):
        DiffCompressor(format, fraction=fraction)


@pytest.mark.parametrize("format", FORMATS)
def test_a_model_may_have_single_numbers(format: str) -> None:
    model = SyftModel([torch.randn(3), torch.tensor(1.5)])
    (_, number) = arrived(DiffCompressor(format, fraction=1.0).compress(model), model)
    assert number.shape == ()
    assert number.item() == pytest.approx(1.5, rel=1e-3)


@pytest.mark.parametrize("format", FORMATS)
def test_an_exploded_diff_leaves_nothing_behind(format: str) -> None:
    compressor = DiffCompressor(format, fraction=1.0)
    compressor.compress(SyftModel([torch.tensor([1.0, float("inf"), float("nan")])]))
    compressor.sent()
    healthy = SyftModel([torch.tensor([1.0, 2.0, 3.0])])
    torch.testing.assert_close(
        arrived(compressor.compress(healthy), healthy)[0], healthy.params[0], rtol=0.02, atol=0.02
    )
