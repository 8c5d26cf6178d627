import asyncio
import dataclasses
import json
import time
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils.data
from torch import Tensor

from fedplan.client import (
    BatchEnd,
    BatchStart,
    EpochEnd,
    EpochStart,
    SyftModel,
    TrainingEnd,
    TrainingStart,
    TrainingStop,
)
from fedplan.client.events import TRAINING_EVENTS
from fedplan.errors import (
    ConfigError,
    JobStateError,
    ModelMismatchError,
    UnknownEventError,
)
from fedplan.plan import PlanInputSpec, PlanOutputSpec, trace
from tests.client.training_cases import (
    BATCH,
    make_data,
    make_model,
    make_plan,
    make_source,
    make_trainer,
)


async def test_the_plan_runs_on_each_batch_and_feeds_the_parameters_back() -> None:
    trainer = make_trainer(epochs=2)
    await trainer.start()
    images, labels = make_data()
    params, lr = make_model().params, torch.tensor([0.05])
    for _ in range(2):
        for x, y in zip(images.split(BATCH), labels.split(BATCH), strict=True):
            params = make_plan()(x, y, lr, *params)[2:]
    for ours, theirs in zip(trainer.current_model.params, params, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)  # the trainer fuses the update


async def test_the_events_come_in_order_with_their_payloads() -> None:
    log: list[Any] = []
    trainer = make_trainer(epochs=2, steps_per_epoch=2, events=dict.fromkeys(TRAINING_EVENTS, log.append))
    await trainer.start()
    shown = [e if not isinstance(e, BatchEnd) else ("batch_end", e.epoch, e.batch) for e in log]

    def epoch(number: int) -> list[Any]:
        batches = [[BatchStart(number, batch), ("batch_end", number, batch)] for batch in (0, 1)]
        return [EpochStart(number), *batches[0], *batches[1], EpochEnd(number)]

    assert shown == [TrainingStart(), *epoch(0), *epoch(1), TrainingEnd()]
    ends = [e for e in log if isinstance(e, BatchEnd)]
    assert all(type(e.loss) is float and type(e.metrics["accuracy"]) is float for e in ends)


async def test_stop_is_told_in_place_of_the_end() -> None:
    log: list[Any] = []
    trainer = make_trainer(events={"stop": log.append, "end": log.append})
    trainer.on("batch_end", trainer.stop)
    await trainer.start()
    assert log == [TrainingStop()]


async def test_epoch_and_batch_idx_tell_the_current_batch_in_handlers() -> None:
    trainer = make_trainer(epochs=2)
    places: list[bool] = []
    for event in ("batch_start", "batch_end"):
        trainer.on(event, lambda e: places.append((e.epoch, e.batch) == (trainer.epoch, trainer.batch_idx)))
    await trainer.start()
    assert len(places) == 28
    assert all(places)


async def test_steps_per_epoch_is_the_exact_number_of_batches() -> None:
    batches: list[BatchStart] = []
    await make_trainer(epochs=2, steps_per_epoch=3, events={"batch_start": batches.append}).start()
    assert batches == [BatchStart(epoch, batch) for epoch in (0, 1) for batch in range(3)]


async def test_counts_and_the_client_config_may_hold_numbers_of_numpy_and_torch() -> None:
    plain = make_trainer(epochs=2, steps_per_epoch=3, batch_size=5, client_config={"lr": 0.25})
    numbers = make_trainer(
        epochs=np.int64(2),
        steps_per_epoch=torch.tensor(3),
        batch_size=np.int32(5),
        client_config={"lr": np.float32(0.25), "mine": torch.tensor([1, 2])},
    )
    for trainer in (plain, numbers):
        await trainer.start()
    assert numbers.current_model.serialize() == plain.current_model.serialize()
    assert [type(n) for n in (numbers.epochs, numbers.steps_per_epoch, numbers.batch_size)] == [int] * 3
    made = json.loads(json.dumps(numbers.create_checkpoint().to_dict()))
    assert made["clientConfig"] == {"lr": 0.25, "mine": [1, 2]}


@pytest.mark.parametrize("source", ["fedplan loader", "torch loader"])
async def test_every_epoch_over_a_loader_is_whole(source: str) -> None:
    batches: list[BatchStart] = []
    await make_trainer(**make_source(source), epochs=3, events={"batch_start": batches.append}).start()
    assert batches == [BatchStart(epoch, batch) for epoch in range(3) for batch in range(7)]


async def test_explicit_specs_work_as_in_the_reference() -> None:
    spec, out = PlanInputSpec, PlanOutputSpec

    def step(x: Tensor, y: Tensor, n: Tensor, lr: Tensor, k: Tensor, w: Tensor, b: Tensor) -> list[Tensor]:
        return [x.sum() + y.sum(), torch.stack([n.float(), lr, k]), b + lr, w + 1, w * 0]

    plan = trace(
        step,
        torch.zeros(2, 2),
        torch.zeros(2),
        torch.tensor(2),
        torch.tensor(0.1),
        torch.tensor(3.0),
        torch.zeros(2),
        torch.zeros(3),
    )
    trainer = make_trainer(
        plan=plan,
        model=SyftModel([torch.zeros(2), torch.zeros(3)]),
        inputs=[
            spec(spec.TYPE_DATA),
            spec(spec.TYPE_TARGET),
            spec(spec.TYPE_BATCH_SIZE),
            spec(spec.TYPE_CLIENT_CONFIG_PARAM, "rate"),
            spec(spec.TYPE_VALUE, None, None, 7.0),
            spec(spec.TYPE_MODEL_PARAM, "w", 0),
            spec(spec.TYPE_MODEL_PARAM, "b", 1),
        ],
        outputs=[
            out(out.TYPE_LOSS),
            out(out.TYPE_METRIC, "given"),
            out(out.TYPE_MODEL_PARAM, "b", 1),
            out(out.TYPE_MODEL_PARAM, "w", 0),
        ],  # the last output has no spec: it is not used
        data=torch.ones(4, 2),
        target=torch.ones(4),
        batch_size=2,
        client_config={"rate": 0.5},
    )
    events: list[BatchEnd] = []
    trainer.on("batch_end", events.append)
    await trainer.start()
    assert events == [BatchEnd(0, batch, 6.0, {"given": [2.0, 0.5, 7.0]}) for batch in (0, 1)]
    w, b = trainer.current_model.params
    assert w.tolist() == [2.0, 2.0]
    assert b.tolist() == [1.0, 1.0, 1.0]


async def test_an_input_for_the_batch_size_is_filled_with_each_batchs_own() -> None:
    spec, out = PlanInputSpec, PlanOutputSpec
    plan = trace(
        lambda x, n, w: [(x * w).sum(), n, w + 1],
        torch.zeros(2, 2),
        torch.zeros(1),
        torch.zeros(2),
        inputs=[spec(spec.TYPE_DATA), spec(spec.TYPE_BATCH_SIZE), spec(spec.TYPE_MODEL_PARAM, index=0)],
        outputs=[out(out.TYPE_LOSS), out(out.TYPE_METRIC, "rows"), out(out.TYPE_MODEL_PARAM, index=0)],
    )
    events: list[BatchEnd] = []
    trainer = make_trainer(
        plan=plan, model=SyftModel([torch.zeros(2)]), data=torch.ones(5, 2), target=None, batch_size=2
    )
    trainer.on("batch_end", events.append)
    await trainer.start()
    assert [event.metrics["rows"] for event in events] == [2.0, 2.0, 1.0]


async def test_a_plan_that_takes_the_batch_size_for_phones_trains_as_the_one_that_does_not() -> None:
    trained = []
    for plan in (make_plan(), make_plan(batch_size_input=True)):
        trainer = make_trainer(plan=plan)
        await trainer.start()
        trained.append(trainer.current_model.params)
    assert all(map(torch.equal, *trained))


async def test_the_original_model_stays_and_the_current_model_is_a_snapshot() -> None:
    model = make_model()
    before = [p.clone() for p in model.params]
    trainer = make_trainer(model=model)
    snapshots: list[SyftModel] = []
    assert trainer.current_model.serialize() == model.serialize()
    trainer.on("batch_end", lambda: snapshots.append(trainer.current_model))
    await trainer.start()
    assert trainer.original_model is model
    assert all(torch.equal(a, b) for a, b in zip(model.params, before, strict=True))
    assert len({s.serialize() for s in snapshots}) == 7


async def test_what_is_handed_out_are_plain_tensors_that_training_does_not_touch() -> None:
    trainer = make_trainer(plan=make_plan("Adam"), steps_per_epoch=2)
    await trainer.start()
    checkpoint = trainer.create_checkpoint()
    assert checkpoint.optimizer_state is not None
    handed = [*trainer.current_model.params, *checkpoint.optimizer_state.params]
    copies = [tensor.clone() for tensor in handed]
    again = make_trainer(plan=make_plan("Adam"))
    again.apply_checkpoint(dataclasses.replace(checkpoint, epochs=3))
    await again.resume()
    assert all(torch.equal(a, b) for a, b in zip(handed, copies, strict=True))
    assert not any(tensor.is_inference() for tensor in handed)
    weight = trainer.current_model.params[0].requires_grad_()
    weight.square().sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None


async def test_other_coroutines_have_their_turn_between_batches_that_take_long() -> None:
    turns: list[int] = []
    trainer = make_trainer(events={"batch_end": lambda: time.sleep(0.002)})

    async def other() -> None:
        while not trainer.stopped:
            turns.append(trainer.batch_idx)
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await trainer.start()
    task.cancel()
    assert set(range(7)) <= set(turns)


async def test_a_training_of_short_batches_gives_a_turn_each_millisecond() -> None:
    trainer = make_trainer(epochs=1000)
    task = asyncio.create_task(trainer.start())
    while trainer.epoch == 0:
        await asyncio.sleep(0)
    reached = trainer.epoch, trainer.batch_idx
    await trainer.stop()
    await task
    assert trainer.stopped
    assert trainer.epoch < 900, f"told to stop at {reached}"


async def test_a_second_start_begins_from_the_original_model() -> None:
    trainer = make_trainer()
    await trainer.start()
    first = trainer.current_model.serialize()
    await trainer.start()
    assert trainer.current_model.serialize() == first


async def test_an_exception_in_a_handler_ends_the_training_and_reaches_who_waits() -> None:
    trainer = make_trainer()
    whole = make_trainer()
    await whole.start()

    @trainer.on("batch_end")
    def fail(event: BatchEnd) -> None:
        if event.batch == 2:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        await trainer.start()
    assert trainer.stopped
    await trainer.resume()  # the batch was trained: it is not repeated
    assert trainer.current_model.serialize() == whole.current_model.serialize()


async def test_begin_starts_in_the_next_turn_and_wait_gives_the_model() -> None:
    trainer = make_trainer()
    started: list[TrainingStart] = []
    trainer.begin()
    trainer.on("start", started.append)  # in time, although the training was begun
    model = await trainer.wait()
    assert started == [TrainingStart()]
    assert model.serialize() == trainer.current_model.serialize()


async def test_a_training_that_runs_cannot_be_started_and_one_that_does_not_cannot_be_waited_for() -> None:
    trainer = make_trainer()
    with pytest.raises(JobStateError, match="was not started"):
        await trainer.wait()
    with pytest.raises(JobStateError, match="not stopped"):
        await trainer.resume()
    trainer.begin()
    with pytest.raises(JobStateError, match="is running"):
        await trainer.start()
    await trainer.wait()


def test_begin_without_an_event_loop_says_what_to_use() -> None:
    with pytest.raises(JobStateError, match="train_blocking"):
        make_trainer().begin()


async def test_a_handler_that_waits_for_its_own_training_is_told_so() -> None:
    trainer = make_trainer()
    trainer.on("batch_end", trainer.wait)
    with pytest.raises(JobStateError, match="it would never come"):
        await trainer.start()


def test_an_unknown_event_is_an_error_that_lists_the_events() -> None:
    with pytest.raises(UnknownEventError, match=r"'batchEnd'.*start, end, stop, epoch_start"):
        make_trainer().on("batchEnd", print)
    with pytest.raises(UnknownEventError):
        make_trainer(events={"finish": print})


def test_a_plan_that_does_not_say_what_its_inputs_are_needs_specs() -> None:
    plan = trace(lambda x: x.sum(), torch.zeros(2, 2))
    with pytest.raises(
        ConfigError, match=r"does not say what its 1 inputs stand for.*inputs=\[PlanInputSpec"
    ):
        make_trainer(plan=plan)
    with pytest.raises(ConfigError, match=r"outputs=\[PlanOutputSpec"):
        make_trainer(plan=plan, inputs=[PlanInputSpec("data")])


@pytest.mark.parametrize(
    ("outputs", "error", "message"),
    [
        (["metric", "metric", "loss"], ConfigError, r"declared as the loss, and has the shape \[5, 6\]"),
        (["modelParam"], ModelMismatchError, r"has the shape \[\]; what it takes the place of has \[5, 6\]"),
    ],
)
async def test_wrong_output_specs_show_at_the_first_batch(
    outputs: list[str], error: type[Exception], message: str
) -> None:
    specs = [PlanOutputSpec(kind, "a" if kind == "metric" else None, 0) for kind in outputs]
    with pytest.raises(error, match=message):
        await make_trainer(outputs=specs).start()
