"""A whole recording under the tracer once more: what was complex are real numbers.

It takes several times as long as to take the recording apart, and goes where that does not.
"""

from collections.abc import Sequence
from typing import Any

from torch.fx import GraphModule, Interpreter, Node
from torch.fx import traceback as fx_traceback

from fedplan.plan.tracing import source
from fedplan.plan.tracing.complex import rules
from fedplan.plan.tracing.complex.numbers import Complex
from fedplan.plan.tracing.plain.apart import SAME


class Replay(Interpreter):
    """Runs a recording with its complex numbers as pairs of real ones.

    It knows where in the author's code it is.
    """

    def __init__(self, module: GraphModule, complex_constants: Sequence[bool]) -> None:
        """Takes a recording.

        Args:
            module: the recording.
            complex_constants: for each constant, whether it is complex, and so given by its parts.
        """
        super().__init__(module)
        self.extra_traceback = False
        self._node: Node | None = None
        names = [str(node.target) for node in module.graph.nodes if node.op == "placeholder"]
        constants = names[len(names) - len(complex_constants) :]
        self._complex = {n for n, is_one in zip(constants, complex_constants, strict=True) if is_one}

    def run_node(self, n: Node) -> Any:
        """Runs one operation."""
        self._node = n
        if n.op != "call_function":
            return super().run_node(n)
        with fx_traceback.set_current_meta(n):  # the plain operations are at the author's line
            if n.target in SAME:
                return self.fetch_args_kwargs_from_env(n)[0][0]
            return super().run_node(n)

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
