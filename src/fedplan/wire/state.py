"""State: an ordered list of tensors. Models, diffs, Plan states and Plan inputs travel as States."""

import functools
from collections.abc import Iterable
from typing import Self

from fedplan.errors import TensorEncodingError
from fedplan.wire import schema
from fedplan.wire.protobuf import MAX_VALUES, Buffer
from fedplan.wire.tensor import WireTensor, read_tensor, write_tensor


class State:
    """An ordered list of tensors, as it travels.

    A State that was read writes the very bytes it was read from: ids, tags and parameters are kept.

    Attributes:
        message: the State as a protobuf message.
    """

    def __init__(self, message: schema.State) -> None:
        self.message = message

    @classmethod
    def of(cls, tensors: Iterable[WireTensor]) -> Self:
        """A State of these tensors, with the ids and tags that all clients of the protocol expect."""
        message = schema.State()
        for index, tensor in enumerate(tensors):
            id = schema.Id(id_int=index)
            message.placeholders.append(schema.Placeholder(id=id, tags=[f"#{index}", f"#state-{index}"]))
            message.tensors.append(schema.StateTensor(torch_tensor=write_tensor(tensor, index)))
        return cls(message)

    @classmethod
    def parse(cls, data: Buffer, most_values: int = MAX_VALUES) -> Self:
        """Reads a State. Tensors are checked when `tensors` is first asked for.

        Args:
            data: the bytes.
            most_values: ids, tags, extents and so on that it may hold; elements do not count.

        Raises:
            WireError: `data` is not a State.
        """
        return cls(schema.State.decode(data, most_values))

    def serialize(self) -> bytes:
        """The State as bytes."""
        return self.message.encode()

    @functools.cached_property
    def tensors(self) -> tuple[WireTensor, ...]:
        """The tensors, in order; trained parameters (`torch_param`) and plain tensors alike.

        Raises:
            TensorEncodingError: a tensor's shape, dtype and contents disagree; the message says which one.
        """
        result = []
        for index, entry in enumerate(self.message.tensors):
            tensor = entry.torch_param.tensor if entry.torch_param else entry.torch_tensor
            try:
                if tensor is None:
                    raise TensorEncodingError("the entry is empty")
                result.append(read_tensor(tensor))
            except TensorEncodingError as error:
                raise TensorEncodingError(f"tensor {index} of the State: {error}") from None
        return tuple(result)

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The dtype that each tensor says it has; "" where it has no contents. Nothing is read for it."""
        tensors = (t.torch_param.tensor if t.torch_param else t.torch_tensor for t in self.message.tensors)
        return tuple(t.contents_data.dtype if t and t.contents_data else "" for t in tensors)

    @property
    def trained(self) -> tuple[bool, ...]:
        """For each tensor, whether it was sent as a parameter that requires a gradient."""
        return tuple(bool(t.torch_param and t.torch_param.requires_grad) for t in self.message.tensors)

    def __len__(self) -> int:
        return len(self.message.tensors)
