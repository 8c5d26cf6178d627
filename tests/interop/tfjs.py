"""What tfjs Plans, and single actions of them, come to in syft.js 0.1.4 on tfjs-core 1.7.4, and 1.2.5.

    for result in run_actions([Action("tf.matMul", (a, b)), Action("tf.sum", (a, [0]), {"keepdim": True})]):
        print(result)  # an array, or the TfjsError with which it ended

An action is run as a Plan of this one action, so it goes the whole way that a client's actions go: onto the
wire, through the client's protobuf, into its executor.
"""

import asyncio
import base64
import json
from collections.abc import Iterable, Sequence
from typing import Any

from .actions import Action, Array, plan_of_action
from .tensors import from_json, to_json
from .workers import run_node

Result = Array | list[Any] | str
"""An output: a tensor, a list of them, or what it was as text, when it was no tensor."""


_SECONDS = 500.0
"""How long all Plans of a call may take together: WebGL compiles a program for each operation."""


class TfjsError(Exception):
    """What syft.js or tfjs-core had to say against an action."""


OLDEST = "tfjs-core-1.2.5"
"""The package with the oldest version of tfjs-core that Plans are made for."""

PROGRAMS = {
    "Node": ("run_plans.mjs", None),
    "Chromium": ("run_plans_in_page.mjs", None),
    "Node, tfjs-core 1.2.5": ("run_plans.mjs", OLDEST),
    "Chromium, tfjs-core 1.2.5": ("run_plans_in_page.mjs", OLDEST),
}
"""By where Plans run: a program, and the package with another tfjs-core than 1.7.4. In Node tfjs computes in
plain JavaScript, in Chromium with WebGL."""


def run_actions(actions: Iterable[Action], runtime: str = "Node") -> list[Result | TfjsError]:
    """Runs each action by itself, all in one process."""
    results = run_plans((plan_of_action(action) for action in actions), runtime)
    return [result if isinstance(result, TfjsError) else result[0] for result in results]


def run_plans(
    plans: Iterable[tuple[bytes, Sequence[Array | float]]], runtime: str = "Node"
) -> list[list[Result] | TfjsError]:
    """Runs whole Plans, all in one process.

    Args:
        plans: for each its tfjs variant, and its inputs: arrays, or numbers where an app gives plain ones.
        runtime: a key of PROGRAMS.

    Returns:
        For each its outputs, or the error with which it ended.
    """
    tasks = [
        {
            "plan": base64.b64encode(plan).decode(),
            "inputs": [item if isinstance(item, int | float) else to_json(item) for item in inputs],
        }
        for plan, inputs in plans
    ]
    program, core = PROGRAMS[runtime]
    lines = asyncio.run(run_node(program, json.dumps(tasks), core, _SECONDS)).splitlines()
    return [_result(json.loads(line)) for line in lines]


def _result(said: dict[str, Any]) -> list[Result] | TfjsError:
    if "error" in said:
        return TfjsError(said["error"])
    return [_output(output) for output in said["outputs"]]


def _output(output: dict[str, Any]) -> Result:
    if "tensor" in output:
        return from_json(output["tensor"])
    if "list" in output:
        return [_output(item) for item in output["list"]]
    return str(output["other"])
