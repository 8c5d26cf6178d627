"""The second look at a recording: what was drawn are inputs, what was complex are real numbers."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import GraphModule, Interpreter, Node
from torch.fx import traceback as fx_traceback

from fedplan.plan.tracing import source
from fedplan.plan.tracing.chance import RULES, without_draw
from fedplan.plan.tracing.complex import rules
from fedplan.plan.tracing.complex.numbers import Complex
from fedplan.plan.tracing.draws import Drawn


class Replay(Interpreter):
    """Runs a recording with its draws answered from inputs and its complex numbers as pairs of real ones.

    It knows where in the author's code it is.
    """

    def __init__(
        self, module: GraphModule, drawn: Drawn, inputs: int, complex_constants: Sequence[bool]
    ) -> None:
        """Takes a recording.

        Args:
            module: the recording.
            drawn: its draws.
            inputs: how many inputs it has; the random ones come after these, before its constants.
            complex_constants: for each constant, whether it is complex, and so given by its parts.
        """
        super().__init__(module)
        self.extra_traceback = False
        self._drawn = drawn
        self._inputs = inputs
        self._numbers: Sequence[torch.Tensor] = ()
        self._node: Node | None = None
        names = [str(node.target) for node in module.graph.nodes if node.op == "placeholder"]
        constants = names[len(names) - len(complex_constants) :]
        self._complex = {n for n, is_one in zip(constants, complex_constants, strict=True) if is_one}

    def replay(self, *values: Any) -> Any:
        """Runs it on its inputs, the numbers of the random inputs, and its constants."""
        given = self._inputs
        own = given + len(self._drawn.inputs)
        self._numbers = values[given:own]
        return self.run(*values[:given], *values[own:])

    def run_node(self, n: Node) -> Any:
        """Runs one operation."""
        self._node = n
        if n.op != "call_function":
            return super().run_node(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        with fx_traceback.set_current_meta(n):  # the plain operations are at the author's line
            if n.name in self._drawn.numbers:
                return self._answer(n, args, kwargs)
            answer = without_draw(n.target, args)
        return super().run_node(n) if answer is None else answer

    def placeholder(self, target: Any, args: Any, kwargs: Any) -> Any:
        """An input, or a constant."""
        value = super().placeholder(target, args, kwargs)
        return Complex(value) if target in self._complex else value

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """An operation."""
        if rules.concerns(target, args, kwargs):
            return rules.call(target, args, kwargs, self.place())
        return super().call_function(target, args, kwargs)

    def place(self) -> str | None:
        """Where in the author's code it is."""
        return self._node.stack_trace if self._node is not None else None

    def place_of(self, error: BaseException) -> str | None:
        """Where in the author's code an error came from."""
        return self.place() or source.of_exception(error)

    def _answer(self, node: Node, args: Any, kwargs: Any) -> Any:
        number = self._drawn.numbers[node.name]
        wanted, numbers = self._drawn.inputs[number], self._numbers[number]
        if wanted.shape[:1] == (None,):  # ties the input's rows to the batch's
            size = _size(node.target, args)
            same = numbers.shape[0] == size[wanted.dim] // wanted.rows
            torch._check(same)  # type: ignore[no-untyped-call]
        return RULES[node.target].answer(wanted.as_drawn(numbers), *args, **kwargs)  # type: ignore[index]


def _size(op: Any, args: Sequence[Any]) -> Sequence[Any]:
    """The extents of a random operator's result."""
    names = [argument.name for argument in op._schema.arguments]
    if "size" in names:
        found: Sequence[Any] = args[names.index("size")]
        return found
    if op is torch.ops.aten.randperm.default:
        return (args[0],)
    shapes = (a.shape for a in args if isinstance(a, torch.Tensor))
    common: Sequence[Any] = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
    return common
