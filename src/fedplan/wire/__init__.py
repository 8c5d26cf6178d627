"""What travels: protobuf messages, tensors as bytes, and the typed JSON messages of the protocol."""

from fedplan.wire.state import State
from fedplan.wire.tensor import DTYPES, WireTensor, read_tensor, write_tensor

__all__ = ["DTYPES", "State", "WireTensor", "read_tensor", "write_tensor"]
