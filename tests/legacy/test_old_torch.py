"""Archives compute in torch 1.7.1 and 1.8.0, which phones have, what their Plans compute here."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from fedplan.plan import OPS, Plan, PlanOutput, model_parameters, training_plan
from fedplan.plan.ir.graph import Graph, Node, Ref
from fedplan.plan.ops import DTYPES
from fedplan.plan.run.interpreter import interpret
from fedplan.plan.variants.torchscript import write
from fedplan.plan.variants.torchscript.arguments import arguments
from tests.legacy.environments import OLD_TORCH, wanted
from tests.plan.families import FAMILIES, images
from tests.plan.tracing.test_training import optimizer_state, traced
from tests.plan.variants.torchscript.operations import SAMPLES

pytestmark = wanted

SAID = [op.name for op in OPS.values() if op.torchscript is not None]

Case = tuple[Plan, Sequence[torch.Tensor]]


def of_a_family(name: str, rows: int) -> Case:
    model, plan = traced(name)
    torch.manual_seed(rows)
    x, y = FAMILIES[name].batch(rows)
    return plan, [x, y, torch.tensor([0.1]), *model_parameters(model), *optimizer_state(plan)]


def of_state() -> Case:
    """State of every dtype and of odd shapes, returned as float32."""
    values = [torch.tensor(v).to(kind) for kind in DTYPES.values() for v in ([[1, 0, 3], [4, 5, 6]], 7, [])]
    nodes = [Node("aten._to_copy.default", (Ref(i), "float32"), (i + 100,)) for i in range(len(values))]
    outputs = tuple(i + 100 for i in range(len(values)))
    graph = Graph((), tuple(enumerate(values)), tuple(nodes), outputs)
    return Plan("state", (), tuple(PlanOutput(str(i)) for i in outputs), graph), []


def of_a_frozen_batch_norm() -> Case:
    torch.manual_seed(0)
    model = FAMILIES["CNN with batch norm"].model().eval()
    plan = training_plan(model, torch.nn.functional.cross_entropy, example=images(4), batch_size_input=True)
    return plan, [*images(6), torch.tensor([6.0]), torch.tensor([0.1]), *model_parameters(model)]


def cases() -> Iterator[tuple[str, Case]]:
    for name, family in FAMILIES.items():
        for rows in family.sizes:
            yield f"{name}; {rows}", of_a_family(name, rows)
    yield "state", of_state()
    yield "frozen batch norm", of_a_frozen_batch_norm()
    for number, sample in enumerate(SAMPLES):
        if sample.op not in SAID:
            continue
        for strided in (False, True):
            yield f"{sample.op}; {number} {strided}", sample.plan(strided)


def save(folder: Path, case: Case) -> None:
    plan, given = case
    folder.mkdir()
    (folder / "archive.pt").write_bytes(write(plan))
    places = [a.inputs if a.listed else a.inputs[0] for a in arguments(plan.inputs)]
    (folder / "places.json").write_text(json.dumps(places))
    for name, tensors in (("arguments", given), ("expected", interpret(plan.graph, given))):
        np.savez(folder / f"{name}.npz", *(tensor.contiguous().numpy() for tensor in tensors))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder with all cases, and their names by the names of their folders."""
    folder = tmp_path_factory.mktemp("cases")
    names = {}
    for number, (name, case) in enumerate(cases()):
        names[f"{number:04}"] = name
        save(folder / f"{number:04}", case)
    return folder, names


@pytest.fixture(scope="module", params=OLD_TORCH)
def results(
    request: pytest.FixtureRequest, saved: tuple[Path, dict[str, str]]
) -> dict[str, dict[str, float | str]]:
    """What came out in an old torch, by case."""
    folder, names = saved
    script = Path(__file__).with_name("scripts") / "run_archives.py"
    command = [OLD_TORCH[request.param], script, folder]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["torch"].startswith(request.param)
    found = {names[key]: result for key, result in report["results"].items()}
    worst = max(result.get("difference", 0.0) for result in found.values())
    failed = sum("error" in result for result in found.values())
    print(
        f"\ntorch {report['torch']}: {len(found)} archives, {failed} failed, largest difference {worst:.1e}"
    )
    return found


def of(results: dict[str, dict[str, float | str]], start: str) -> dict[str, dict[str, float | str]]:
    found = {name: result for name, result in results.items() if name.partition(";")[0] == start}
    assert found
    return found


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [*FAMILIES, "state", "frozen batch norm"])
def test_a_family_trains(name: str, results: dict[str, dict[str, float | str]]) -> None:
    found = of(results, name)
    assert not [result["error"] for result in found.values() if "error" in result]
    worst = max(float(result["difference"]) for result in found.values())
    print(f" {name}: {len(found)} archive(s), largest difference {worst:.1e}")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("op", SAID)
def test_an_operation_computes_the_same(op: str, results: dict[str, dict[str, float | str]]) -> None:
    assert not {name: r["error"] for name, r in of(results, op).items() if "error" in r}
