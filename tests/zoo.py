"""Runs the zoo, 141 training steps as people write them, and counts what becomes of them.

    python -m tests.zoo OUT.jsonl [NAME…]

The zoo and its harness lie in ``../shared/zoo``. The harness calls a Plan without random inputs; here these
are filled, and eager PyTorch runs with the same numbers.
"""

import collections
import contextlib
import copy
import json
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

from fedplan.plan import Plan, PlanInputSpec, RandomStream, model_parameters
from fedplan.plan.ops import DTYPES
from tests.plan.same_numbers import SameNumbers
from tests.shared import SHARED

FOLDER = SHARED / "zoo"
STREAM = RandomStream(1)
STEPS = 2


def main() -> None:
    sys.path.insert(0, str(FOLDER))
    import harness

    import zoo  # noqa: F401  # registers its cases

    harness.TP.compare = compare_step
    harness.TR.compare = compare_function
    harness.main(str(FOLDER / "zoo.py"))
    if not sys.argv[2:]:
        report(Path(sys.argv[1]))


def compare_step(case: Any, plan: Plan, rows: int) -> tuple[float, float, float, float]:
    """The greatest difference over some steps, the greatest change, and the times of eager and Plan."""
    import harness

    torch.manual_seed(rows)
    data, target = case.make(rows)
    several = not isinstance(data, torch.Tensor)
    rate = 0.05 if isinstance(case.lr, str) else case.lr
    model = copy.deepcopy(case.model)
    optimizer = optimizer_of(case, [p for p in model.parameters() if p.requires_grad], rate)
    trained = [p for group in optimizer.param_groups for p in group["params"]]

    def eager() -> torch.Tensor:
        loss = case.loss(model(*data) if several else model(data), target)
        optimizer.zero_grad()
        loss.backward()
        if case.clip_value is not None:
            torch.nn.utils.clip_grad_value_(trained, case.clip_value)
        if case.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(trained, case.clip_norm)
        optimizer.step()
        return loss.detach()

    params, metrics = [t.clone() for t in model_parameters(case.model)], len(case.metrics or {})
    kind = PlanInputSpec.TYPE_OPTIMIZER_STATE
    state = [
        torch.zeros([e or 0 for e in i.shape or ()], dtype=DTYPES[i.dtype or ""])
        for i in plan.inputs
        if i.spec is not None and i.spec.type == kind
    ]

    def ours(step: int) -> list[torch.Tensor]:
        given = [*(data if several else [data]), *pytree.tree_leaves(target)]
        rates = [rate] if isinstance(case.lr, str) else []
        return plan(*given, *rates, *params, *state, random=STREAM, step=step)

    worst = 0.0
    for step in range(STEPS):
        with same_numbers(plan, rows, step):
            loss = eager()
        out = ours(step)
        worst = max(worst, harness.rel(loss, out[0]))
        params = out[1 + metrics : 1 + metrics + len(params)]
        state = out[1 + metrics + len(params) :]
        for theirs, made in zip(model_parameters(model), params, strict=True):
            worst = max(worst, harness.rel(theirs, made))
    changed = max(
        float((a.double() - b.double()).abs().max()) if a.numel() else 0.0
        for a, b in zip(model_parameters(case.model), params, strict=True)
    )
    return worst, changed, harness.best(eager), harness.best(lambda: ours(0))


def same_numbers(plan: Plan, rows: int, step: int) -> AbstractContextManager[object]:
    """While it lasts, PyTorch draws the numbers of the Plan, if that draws any."""
    drawn = plan.draw(STREAM, rows, step=step)
    return SameNumbers(drawn) if drawn else contextlib.nullcontext()


def optimizer_of(case: Any, params: list[torch.Tensor], rate: float) -> torch.optim.Optimizer:
    """The case's optimizer for other parameters; groups of one that was made keep their settings."""
    if not isinstance(case.optimizer, torch.optim.Optimizer):
        made: torch.optim.Optimizer = (case.optimizer or torch.optim.SGD)(params)
        for group in made.param_groups:
            group["lr"] = rate
        return made
    places = {id(p): k for k, p in enumerate(p for p in case.model.parameters() if p.requires_grad)}
    ratio = {id(g): g["lr"] / case.optimizer.defaults["lr"] for g in case.optimizer.param_groups}
    groups = [
        {**group, "params": [params[places[id(p)]] for p in group["params"]], "lr": rate * ratio[id(group)]}
        for group in case.optimizer.param_groups
    ]
    kind: Any = type(case.optimizer)
    again: torch.optim.Optimizer = kind(groups, lr=rate)
    return again


def compare_function(case: Any, plan: Plan, rows: int) -> tuple[float, float, float, float]:
    """The greatest difference, and the times of eager and Plan."""
    import harness

    torch.manual_seed(rows)
    arguments = case.make(rows)

    def eager() -> list[torch.Tensor]:
        copies = pytree.tree_map_only(torch.Tensor, lambda t: t.detach().clone(), arguments)
        return pytree.tree_leaves(case.fn(*copies))

    flat = [t.detach() if isinstance(t, torch.Tensor) else t for t in pytree.tree_leaves(arguments)]
    with same_numbers(plan, rows, step=0):
        expected = eager()
    made = plan(*flat, random=STREAM)
    worst = max((harness.rel(a.detach(), b) for a, b in zip(expected, made, strict=True)), default=0.0)
    return worst, 1.0, harness.best(eager), harness.best(lambda: plan(*flat, random=STREAM))


def report(path: Path) -> None:
    """The counts of a run, and what is not as wanted."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    print(collections.Counter(row["status"] for row in rows))
    equal = [row for row in rows if row["status"] == "TRACED" and _equal(row)]
    print("equal to eager:", len(equal))
    for variant in ("tfjs", "torchscript"):
        print(variant, sum(str(row.get(variant, "")).startswith("ok") for row in rows))
    for row in rows:
        if row["status"] != "TRACED":
            print("NOT TRACED", row["name"], "|", str(row.get("error", ""))[:200].replace("\n", " "))
        elif not _equal(row):
            print("DIFFERS", row["name"], {k: v for k, v in row.items() if k.startswith(("diff", "cmp"))})


def _equal(row: dict[str, Any]) -> bool:
    differences = [value for key, value in row.items() if key.startswith("diff")]
    return bool(differences) and all(value is not None and value < 1e-4 for value in differences)


if __name__ == "__main__":
    main()
