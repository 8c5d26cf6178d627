"""What is simulated is what a grid does: the same checkpoints, bit by bit, and the same history."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fedplan
from fedplan.client import ModelCentricFLClient, participate_async
from fedplan.grid import Settings, create_app
from fedplan.simulation import client_seed
from tests.client.small_grid import serve
from tests.simulation.cases import CONFIG, clients, model_of, plans_of, same_bits, simulate

WORKERS, CYCLES, SEED = 4, 3, 11


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("grid")
    with serve(create_app(Settings(data_dir=folder, poll_seconds=0.05, retry_seconds=0.2))) as url:
        yield url


async def train(url: str, version: str, *, slow: bool, evaluates: bool) -> None:
    """Workers train all cycles; those with high numbers report first, in some of the cycles."""

    def waiting(worker: int) -> Any:
        async def wait(_: object) -> None:
            await asyncio.sleep(0.03 * (WORKERS - worker) if slow else 0)

        return wait

    await asyncio.gather(
        *(
            participate_async(
                url,
                "m",
                version,
                *data,
                seed=client_seed(SEED, worker),
                cycles=None if evaluates else CYCLES,
                wait=60.0,
                events={"end": waiting(worker)},
                allow_plain_text=True,
            )
            for worker, data in enumerate(clients(WORKERS))
        )
    )


CASES: dict[str, tuple[str, dict[str, Any], bool]] = {
    "fedavg": ("plain", {}, False),
    "uniform": ("plain", {"weighting": "uniform", "metrics": ["update_norm"]}, False),
    "fedadam": ("plain", {"strategy": {"name": "fedadam", "lr": 0.05}}, False),
    "scaffold": ("scaffold", {"strategy": {"name": "scaffold", "population": 9}}, False),
    "median": ("plain", {"strategy": "median"}, False),
    "dropout": ("dropout", {}, False),
    "evaluation": ("plain", {}, True),
    "float16": ("plain", {"report_formats": ["float16"]}, False),
    "int8": ("norm", {"report_formats": ["int8"]}, False),
    "topk": ("plain", {"report_formats": ["topk"]}, False),
}


@pytest.mark.some(3)
@pytest.mark.parametrize("name", CASES)
async def test_a_simulation_gives_the_checkpoints_of_a_grid(url: str, name: str) -> None:
    kind, strategy, evaluates = CASES[name]
    server = {"min_diffs": WORKERS, "max_diffs": WORKERS, "num_cycles": CYCLES, **strategy}
    schedule = {"schedule": "linear", "start": 0.3, "end": 0.1, "cycles": 2}
    config = {**CONFIG, "version": name, "lr": schedule}
    async with ModelCentricFLClient(url) as owner:
        await owner.host_federated_training_async(
            model_of(kind), plans_of(kind, evaluates), config, server, variants=[]
        )
        await train(url, name, slow=True, evaluates=evaluates)
        await owner.wait_async("m", name, finished=not evaluates, evaluated=evaluates, timeout=60)
        for rounds in range(1, CYCLES + 1):
            ours = simulate(
                kind=kind,
                evaluates=evaluates,
                server=server,
                client_config=config,
                clients=clients(WORKERS),
                seed=SEED,
                rounds=rounds,
            )
            theirs = await owner.retrieve_model_async("m", name, rounds + 1)
            assert same_bits(ours.model, theirs), f"checkpoint {rounds + 1} differs"
        told = await owner.history_async("m", name)
    assert [row.metrics for row in ours.history] == [row.metrics for row in told]
    for key in ("cycle", "task", "checkpoint", "phase", "workers", "reports", "samples"):
        assert [getattr(row, key) for row in ours.history] == [getattr(row, key) for row in told]
    assert len(told) == CYCLES + evaluates


async def test_what_was_simulated_is_hosted_with_its_own_arguments(url: str) -> None:
    config = {**CONFIG, "version": "hosting"}
    server = {"min_diffs": WORKERS, "max_diffs": WORKERS, "num_cycles": CYCLES}
    result = simulate(server=server, client_config=config, clients=clients(WORKERS), seed=SEED, rounds=CYCLES)
    async with ModelCentricFLClient(url) as owner:
        await owner.host_federated_training_async(**result.hosting())
        await train(url, "hosting", slow=False, evaluates=False)
        await owner.wait_async("m", "hosting", finished=True, timeout=60)
        theirs = await owner.retrieve_model_async("m", "hosting")
    assert same_bits(result.model, theirs)
    assert isinstance(theirs, fedplan.SyftModel)
