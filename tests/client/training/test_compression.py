"""What a smaller report loses goes into the next one."""

from pathlib import Path

import pytest
import torch
from torch import nn

from fedplan.client import ModelCentricFLClient, SyftModel, participate_async
from fedplan.client.training.compression import DiffCompressor, negotiate
from fedplan.errors import ConfigError
from fedplan.grid import Settings, create_app
from fedplan.plan import to_torch, training_plan
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
    for total, part, kept in zip(wanted, sent, compressor.kept, strict=True):
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


@pytest.mark.parametrize("format", FORMATS)
def test_running_statistics_stay_as_they_are(format: str) -> None:
    torch.manual_seed(0)
    whole = SyftModel([torch.randn(50), torch.randn(50) / 3, torch.randn(50)])
    made = arrived(DiffCompressor(format, fraction=0.1).compress(whole, exact=[1]), whole)
    assert torch.equal(made[1], whole.params[1])
    assert not torch.equal(made[0], whole.params[0])
    assert not torch.equal(made[2], whole.params[2])


async def test_a_variance_is_never_negative_whatever_the_form_of_the_report(tmp_path: Path) -> None:
    torch.manual_seed(0)
    spread = torch.logspace(-8, 4, 12)  # variances so unequal that eight bits would lose the small ones
    images, labels = torch.randn(16, 12) * spread.sqrt(), torch.arange(16) % 2
    model = nn.Sequential(nn.BatchNorm1d(12, momentum=1.0), nn.Linear(12, 2))
    plan = training_plan(model, nn.functional.cross_entropy, example=(images, labels))
    config = {"name": "m", "version": "1", "batch_size": 16, "lr": 0.1}
    app = create_app(Settings(data_dir=tmp_path, poll_seconds=0.05))
    async with app.router.lifespan_context(app), ModelCentricFLClient("http://grid", app=app) as owner:
        server = {"max_diffs": 1, "num_cycles": 1, "report_formats": ["int8"]}
        await owner.host_federated_training_async(model, {"training_plan": plan}, config, server)
        await participate_async("http://grid", "m", "1", images, labels, app=app)
        await owner.wait_async("m", "1", finished=True, timeout=30)
        trained = await owner.retrieve_model_async("m", "1")
    trained.load_into(model)
    variance = model[0].running_var
    assert (variance >= 0).all()
    torch.testing.assert_close(variance, images.var(0), rtol=1e-4, atol=1e-6)
