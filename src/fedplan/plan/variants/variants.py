"""The forms in which one Plan is served: the op list, TorchScript for phones, tfjs for browsers."""

import copy
import dataclasses
import math
import re
from collections.abc import Iterable, Mapping

from fedplan.wire import schema

_MISSING_TAG = "#fedplan-missing"
_MISSING = re.compile(rf"{_MISSING_TAG}:([a-z]+):(.{{1,1000}})", re.DOTALL)
_ERROR_TAG = "#fedplan-error"
_ERROR = re.compile(rf"{_ERROR_TAG}:([a-z]+):(\d{{1,20}}(?:\.\d{{1,20}})?(?:e[+-]?\d{{1,3}})?)", re.ASCII)


@dataclasses.dataclass(frozen=True, slots=True)
class Variants:
    """What a Plan holds besides its op list.

    Attributes:
        torchscript: a TorchScript archive; empty when there is none.
        tfjs: the role that browsers run; None when there is none.
        errors: for each variant that was compared with the op list, its greatest error (see
            `fedplan.plan.variants.conformance`).
        missing: for each variant that the Plan cannot have, the reason.
    """

    torchscript: bytes = b""
    tfjs: schema.Role | None = None
    errors: Mapping[str, float] = dataclasses.field(default_factory=dict)
    missing: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def names(self) -> list[str]:
        """The variants that there are, by the values of `receive_operations_as`, `list` left out."""
        return [*(["torchscript"] if self.torchscript else []), *(["tfjs"] if self.tfjs is not None else [])]

    @property
    def tags(self) -> list[str]:
        """Tags of a Plan message: ``#fedplan-error:tfjs:2.4e-07``, and why a variant is missing."""
        return [
            *(f"{_ERROR_TAG}:{variant}:{error:.3g}" for variant, error in self.errors.items()),
            *(f"{_MISSING_TAG}:{variant}:{why[:1000]}" for variant, why in self.missing.items() if why),
        ]


def errors_from_tags(tags: Iterable[str]) -> dict[str, float]:
    """The greatest error of each variant that was compared with the op list.

    Whatever else tags say is passed over: they are anybody's.
    """
    errors = {}
    for tag in tags:
        found = _ERROR.fullmatch(tag)
        if found is not None and math.isfinite(error := float(found[2])):
            errors[found[1]] = error
    return errors


def missing_from_tags(tags: Iterable[str]) -> dict[str, str]:
    """Why the Plan lacks variants, as its author's fedplan told it."""
    found = (_MISSING.fullmatch(tag) for tag in tags)
    return {match[1]: match[2] for match in found if match is not None}


def of_message(message: schema.Plan) -> Variants:
    """What a Plan message holds besides its op list."""
    tags = message.tags
    return Variants(
        message.torchscript, message.roles.get("tfjs"), errors_from_tags(tags), missing_from_tags(tags)
    )


def split_variants(data: bytes) -> dict[str, bytes]:
    """What a hosted Plan is served as, by the value of `receive_operations_as`.

    Args:
        data: the Plan as it was hosted: the op list in `role`, and what else it holds in `torchscript` and
            `roles["tfjs"]`.

    Returns:
        The messages by variant; `list` always, `torchscript` and `tfjs` when the Plan holds them.

    Raises:
        WireError: `data` is not a Plan message.
    """
    whole = schema.Plan.decode(data)

    def variant(role: schema.Role | None, torchscript: bytes = b"", framework: str = "torch") -> bytes:
        part = copy.copy(whole)
        part.role, part.torchscript, part.roles, part.base_framework = role, torchscript, {}, framework
        return part.encode()

    variants = {"list": variant(whole.role)}
    if whole.torchscript:
        without_actions = copy.copy(whole.role) or schema.Role()
        without_actions.actions = []
        variants["torchscript"] = variant(without_actions, whole.torchscript)
    if "tfjs" in whole.roles:
        variants["tfjs"] = variant(whole.roles["tfjs"], framework="tfjs")
    return variants
