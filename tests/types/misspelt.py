"""For type checkers alone: a misspelt public name is an error, and a true one is none.

`scripts/check` has mypy look at it. Where a line is no error any more, mypy says that its comment is unused.
"""

import fedplan
import fedplan.plan
from fedplan import ConsentPolicy, participate

MISSPELT = (
    fedplan.participat,  # type: ignore[attr-defined]
    fedplan.Trainer,  # type: ignore[attr-defined]
    fedplan.plan.OSP,  # type: ignore[attr-defined]
)

OPERATIONS: int = len(fedplan.plan.OPS)
POLICY: ConsentPolicy = fedplan.ConsentPolicy(max_operations=10)
SAME: bool = fedplan.participate is participate
