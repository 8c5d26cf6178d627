"""Plans as TorchScript archives, for runtimes that have no interpreter for the op list: phones.

The archive is written here from the Plan's operations, in the words that torch 1.7 (LibTorch in
SwiftSyft), 1.8 (pytorch_android) and today's torch have in common, so that both compute the same numbers.
"""

from fedplan.plan.variants.torchscript.loading import run, values
from fedplan.plan.variants.torchscript.module import write

__all__ = ["run", "values", "write"]
