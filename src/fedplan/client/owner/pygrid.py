"""Hosting on a PyGrid node: what it can read and do, checked before anything is sent.

A PyGrid node reads Plans with PySyft, hosts over a WebSocket only, and looks at a few keys of server_configs.
It averages by itself when the averaging Plan is an empty text; absent it must not be.
"""

import dataclasses
import logging
from collections.abc import Collection, Mapping
from typing import Any

from fedplan.errors import ConfigError, PlanFormatError
from fedplan.federation.schedule import is_schedule
from fedplan.plan import Plan, PlanInputSpec
from fedplan.plan.message.for_pysyft import for_pysyft, is_loadable
from fedplan.wire.messages import EVALUATION_PLAN, HostTrainingRequest

_log = logging.getLogger("fedplan.client")

_NEEDED = ("cycle_length", "num_cycles")
"""Keys of the server_config without which a PyGrid node fails when it rejects a worker."""

_KEPT_ONLY = ("min_workers", "max_workers", "pool_selection", "do_not_reuse_workers_until_cycle")
"""Keys that it takes and does nothing with."""

_HEEDED = (
    "min_diffs",
    "max_diffs",
    "minimum_upload_speed",
    "minimum_download_speed",
    "iterative_plan",
    "authentication",
)
_AUTHENTICATION = ("secret", "pub_key", "endpoint")


def hosting_of(
    model: str,
    plans: Mapping[str, Plan],
    client_config: Mapping[str, Any],
    server_config: Mapping[str, Any],
    *,
    averaging_plan: bool,
    protocols: bool,
    variants: Collection[str] | None,
) -> HostTrainingRequest:
    """What a PyGrid node is sent to host a model.

    Args:
        model: the State, in hex.
        plans: what workers run, by name, with the variants that could be made.
        client_config: what workers are told; its values are checked already.
        server_config: how the node runs the cycles, checked already.
        averaging_plan: whether the caller has one.
        protocols: whether the caller has some.
        variants: those that the caller insists on; None for those that can be had.

    Raises:
        ConfigError: it asks for what a PyGrid node cannot do.
        PlanError: a Plan holds what PySyft cannot read.
    """
    _check_server_config(server_config)
    scheduled = [key for key, value in client_config.items() if is_schedule(value)]
    if scheduled:
        raise ConfigError(
            f"client_config: '{scheduled[0]}' is a schedule, and a PyGrid node tells workers the same in "
            "each cycle: set a number"
        )
    if averaging_plan:
        raise ConfigError(
            "a PyGrid node runs an averaging Plan with PySyft, which has none of the operations of this one: "
            "leave server_averaging_plan out, and it takes the mean of the diffs"
        )
    if protocols:
        raise ConfigError("a PyGrid node keeps Protocols, and cannot send them to workers: leave them out")
    return HostTrainingRequest(
        model=model,
        plans={name: _readable(name, plan, variants).hex() for name, plan in plans.items()},
        averaging_plan="",
        client_config=dict(client_config),
        server_config=dict(server_config),
    )


def _check_server_config(config: Mapping[str, Any]) -> None:
    missing = [key for key in _NEEDED if config.get(key) is None]
    if missing:
        raise ConfigError(
            f"server_config: a PyGrid node needs {' and '.join(missing)}: without, it fails when a worker "
            "asks again in its cycle"
        )
    known = (*_NEEDED, *_KEPT_ONLY, *_HEEDED)
    unknown = [key for key, value in config.items() if key not in known and value is not None]
    unknown += [
        f"authentication.{key}" for key in config.get("authentication") or () if key not in _AUTHENTICATION
    ]
    if unknown:
        raise ConfigError(
            f"server_config: a PyGrid node knows nothing of {', '.join(unknown)}, and would not do it; its "
            f"keys are {', '.join(known)}"
        )
    idle = [key for key in _KEPT_ONLY if config.get(key) is not None]
    if idle:
        _log.warning("a PyGrid node keeps %s, and does not act on it", ", ".join(idle))


def _readable(name: str, plan: Plan, variants: Collection[str] | None) -> bytes:
    """The Plan's message for PySyft, without the archive that it cannot load.

    Raises:
        PlanError: the Plan is of no use there.
    """
    if name == EVALUATION_PLAN:
        raise PlanFormatError(
            f"a PyGrid node gives all clients all Plans, and takes nothing that they measured: host without "
            f"the Plan '{EVALUATION_PLAN}'"
        )
    if any(item.spec is not None and item.spec.type == PlanInputSpec.TYPE_CYCLE for item in plan.inputs):
        raise PlanFormatError(
            f"the Plan '{plan.name}' reads the number of the cycle, and a PyGrid node does not tell it"
        )
    if plan.variants.tfjs is None:
        why = plan.variants.missing.get("tfjs", "it was left out")
        raise PlanFormatError(
            f"a PyGrid node takes no Plan without its tfjs variant, and '{plan.name}' has none: {why}"
        )
    if plan.variants.torchscript and not is_loadable(plan.variants.torchscript):
        if variants is not None and "torchscript" in variants:
            raise PlanFormatError(
                f"a PyGrid node loads a Plan's TorchScript with torch 1.4, which does not read that of "
                f"'{plan.name}': leave torchscript out of variants; phones cannot train it there"
            )
        _log.warning(
            "the Plan '%s' is hosted without torchscript, which PyGrid's torch 1.4 cannot load", name
        )
        plan = dataclasses.replace(plan, variants=dataclasses.replace(plan.variants, torchscript=b""))
    return for_pysyft(plan.serialize())
