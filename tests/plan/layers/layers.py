"""Every layer of `torch.nn`, and what of it is no layer."""

from collections.abc import Mapping

from tests.plan.layers.layer import Layer
from tests.plan.layers.pictures import PICTURES
from tests.plan.layers.sequences import SEQUENCES

LAYERS: Mapping[str, Layer] = PICTURES | SEQUENCES

NOT_LAYERS = {
    **dict.fromkeys(
        ("Module", "Container", "ModuleDict", "ModuleList", "ParameterDict", "ParameterList"), "holds layers"
    ),
    **dict.fromkeys(("RNNBase", "RNNCellBase"), "base of layers that are listed"),
    "DataParallel": "divides a batch over GPUs",
    "SyncBatchNorm": "has no CPU kernel in train mode",
}
"""Modules of `torch.nn` that need no entry, with the reason."""
