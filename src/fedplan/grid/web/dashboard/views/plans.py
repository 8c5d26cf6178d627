"""A hosted Plan as a listing: what goes in, what comes out, each operation between, and what a run costs."""

from collections.abc import Mapping, Sequence
from typing import Any

from fedplan.grid.web.dashboard.views.words import large, said, shape
from fedplan.plan import Plan
from fedplan.plan.listing import Listing, list_plan
from fedplan.text import in_bytes

_USUAL_BATCH = 32
_OPERATIONS_SHOWN = 2000


def batch_of(client_config: Mapping[str, Any]) -> int:
    """The batch size for which a cost is told: the model's, where its client_config says one."""
    told = client_config.get("batch_size")
    return told if isinstance(told, int) and not isinstance(told, bool) and 0 < told < 2**20 else _USUAL_BATCH


def plan_listing(data: bytes, batch: int) -> dict[str, Any]:
    """Reads a Plan and lists it. It takes a while for a long one.

    Raises:
        PlanFormatError: it cannot be read.
    """
    listing = list_plan(Plan.parse(data), len(data), batch)
    operations = [_operation(one) for one in listing["operations"]]
    return {
        "name": said(listing["name"]),
        "size": in_bytes(listing["bytes"]),
        "variants": listing["variants"],
        "inputs": _values(listing["inputs"]),
        "constants": _values(listing["constants"]),
        "outputs": _values(listing["outputs"]),
        "operations": operations[:_OPERATIONS_SHOWN],
        "count": len(operations),
        "cost": _cost(listing),
    }


def _values(items: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    return [
        {
            "value": item["value"],
            "name": said(item["name"]),
            "role": (item.get("kind") or "").replace("_", " "),
            "shape": shape(item["shape"]),
            "dtype": item["dtype"] or "",
        }
        for item in items
    ]


def _operation(item: Mapping[str, Any]) -> dict[str, str]:
    result, _, call = item["text"].partition(" = ")
    return {
        "result": result,
        "call": said(call),
        "shape": ", ".join("a number" if one is None else shape(one) for one in item["shapes"]),
    }


def _cost(listing: Listing) -> dict[str, Any]:
    told = listing["estimate"]
    if "refused" in told:
        return {"refused": said(told["refused"])}
    return {"batch": told["batch"], "memory": in_bytes(told["peak_bytes"]), "work": large(told["work"])}
