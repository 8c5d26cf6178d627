"""What `fedplan plan check` finds out about a Plan's variants."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fedplan.errors import PlanFormatError, TranslationError, UnsupportedOpError

if TYPE_CHECKING:
    from fedplan.plan import Plan
    from fedplan.wire import WireTensor


@dataclasses.dataclass(frozen=True)
class Finding:
    """What was found out about one variant.

    Attributes:
        variant: its name.
        held: whether the file holds it.
        error: its greatest error; None when there is no such variant.
        errors: the same for each output, by name.
        reason: why there is no such variant.
    """

    variant: str
    held: bool
    error: float | None = None
    errors: dict[str, float] = dataclasses.field(default_factory=dict)
    reason: str | None = None

    def row(self) -> list[str]:
        """Cells of a table."""
        if self.error is None:
            return [self.variant, "cannot be had", self.reason or ""]
        return [self.variant, "in the file" if self.held else "made when hosted", f"{self.error:.2g}"]


def examine(plan: "Plan", inputs: "Sequence[WireTensor] | None") -> list[Finding]:
    """Checks the variants that a Plan holds, and those that it would get.

    Raises:
        VariantError: a variant computes something else than the op list.
        PlanFormatError: the Plan does not say what inputs it takes, and none were given.
    """
    from fedplan.plan import check_variants, make_variant, to_torch
    from fedplan.wire.messages import PLAN_VARIANTS

    held, reasons = plan.variants.names(), {}
    for name in PLAN_VARIANTS[1:]:
        if name not in held:
            try:
                plan = make_variant(plan, name)
            except (TranslationError, UnsupportedOpError, PlanFormatError) as reason:
                reasons[name] = str(reason)
    results = check_variants(plan, inputs=None if inputs is None else list(map(to_torch, inputs)))
    names = [output.name for output in plan.outputs]
    found = {
        result.variant: Finding(
            result.variant,
            result.variant in held,
            result.greatest,
            dict(zip(names, result.errors, strict=True)),
        )
        for result in results
    }
    return [found.get(name) or Finding(name, False, reason=reasons[name]) for name in PLAN_VARIANTS[1:]]
