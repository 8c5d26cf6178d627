"""What travels: protobuf messages, tensors as bytes, and the typed JSON messages of the protocol."""

from fedplan.wire.state import State
from fedplan.wire.summary import MetricMean, Summary, read_report, with_summary
from fedplan.wire.tensor import DTYPES, WireTensor, read_tensor, write_tensor

__all__ = [
    "DTYPES",
    "MetricMean",
    "State",
    "Summary",
    "WireTensor",
    "read_report",
    "read_tensor",
    "with_summary",
    "write_tensor",
]
