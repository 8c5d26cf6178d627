"""State: an ordered list of tensors. Models, diffs, Plan states and Plan inputs travel as States."""

import functools
import itertools
from collections.abc import Iterable, Sequence
from typing import Self

from fedplan.errors import TensorEncodingError, WireError
from fedplan.wire import schema
from fedplan.wire.protobuf import MAX_VALUES
from fedplan.wire.scalars import Buffer
from fedplan.wire.tensor import WireTensor, read_tensor, write_tensor

Places = tuple[int, ...] | None
"""Which of a model's tensors something holds, in ascending order; None: all of them."""

_PLACE_TAG = "#fedplan-param:"
_LONGEST_PLACE = 9  # digits


class State:
    """An ordered list of tensors, as it travels.

    A State that was read writes the very bytes it was read from: ids, tags and parameters are kept.

    A State that holds a part of a model says so: the tag ``#fedplan-param:7`` of a placeholder means that its
    tensor is the model's tensor 7. Without such tags it is whole.

    Attributes:
        message: the State as a protobuf message.
    """

    def __init__(self, message: schema.State) -> None:
        self.message = message

    @classmethod
    def of(cls, tensors: Iterable[WireTensor], places: Places = None) -> Self:
        """A State of these tensors, with the ids and tags that all clients of the protocol expect.

        Args:
            tensors: in the model's order.
            places: of a part of a model, which of its tensors they are.
        """
        tensors = list(tensors)
        numbers = range(len(tensors)) if places is None else places
        message = schema.State(placeholders=[_placeholder(number, places is not None) for number in numbers])
        for number, tensor in zip(numbers, tensors, strict=True):
            message.tensors.append(schema.StateTensor(torch_tensor=write_tensor(tensor, number)))
        return cls(message)

    def part(self, places: Sequence[int]) -> "State":
        """The State of some of a whole one's tensors, which says which they are. Nothing is copied.

        Args:
            places: which, in ascending order.
        """
        return State(
            schema.State(
                placeholders=[_placeholder(place, True) for place in places],
                tensors=[self.message.tensors[place] for place in places],
            )
        )

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

    @functools.cached_property
    def places(self) -> Places:
        """Which of a model's tensors it holds; None when it is whole, as States of other clients are.

        Raises:
            WireError: it does not say it of each of its tensors, once, in ascending order.
        """
        said = [
            [tag.removeprefix(_PLACE_TAG) for tag in placeholder.tags if tag.startswith(_PLACE_TAG)]
            for placeholder in self.message.placeholders
        ]
        if not any(said):
            return None
        if len(said) != len(self) or not all(len(tags) == 1 and _is_place(tags[0]) for tags in said):
            raise WireError(
                f"the State holds a part of a model; each of its {len(self)} tensors needs one placeholder, "
                f"with one tag {_PLACE_TAG}N that says which tensor of the model it is, counted from 0"
            )
        places = tuple(int(place) for (place,) in said)
        if any(one >= other for one, other in itertools.pairwise(places)):
            raise WireError("the State holds a part of a model whose tensors are not in the model's order")
        return places

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


def head_of(tensors: int) -> bytes:
    """The bytes with which the State of so many tensors begins: all that stands before the first of them."""
    return schema.State(placeholders=[_placeholder(number, False) for number in range(tensors)]).encode()


def _placeholder(number: int, of_part: bool) -> schema.Placeholder:
    tags = [f"#{number}", f"#state-{number}"]
    return schema.Placeholder(
        id=schema.Id(id_int=number), tags=[*tags, f"{_PLACE_TAG}{number}"] if of_part else tags
    )


def _is_place(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _LONGEST_PLACE
