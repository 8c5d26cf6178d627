"""The small parts of the plan layer: the op table, the IR, rewriting, specs, tensors."""

import pytest
import torch

from fedplan.errors import PlanFormatError, TensorEncodingError, UnsupportedOpError
from fedplan.plan import OPS, PlanInputSpec, PlanOutputSpec, from_torch, to_torch, trace
from fedplan.plan.ir.arguments import bind
from fedplan.plan.ir.graph import Graph, Node, Ref
from fedplan.plan.ir.rewrite import prune, simplify
from fedplan.plan.ir.verify import verify
from fedplan.plan.ops import EXECUTOR_OPS, Kind, Trait, lookup, overload
from fedplan.plan.run.compiler import _in_place, _quickest
from fedplan.plan.run.interpreter import interpret
from fedplan.plan.spec import _INPUT_TYPES, _OUTPUT_TYPES, input_from_tags, output_from_tags, to_tags
from fedplan.wire import WireTensor


class TestOpTable:
    def test_every_row_exists_in_this_pytorch(self) -> None:
        for name, op in OPS.items():
            assert callable(op.call), name
            assert all(argument.name for argument in op.arguments), name

    def test_no_row_works_in_place_or_by_chance(self) -> None:
        for name, op in OPS.items():
            if op.kind is not Kind.SIZE:
                assert not overload(name)._schema.is_mutable, name
                tags = overload(name).tags
                assert torch.Tag.nondeterministic_seeded not in tags, name
                # these have such a form, which the check on the meta device refuses
                dynamic = torch.Tag.dynamic_output_shape in tags
                fixed = {"aten.index.Tensor", "aten.one_hot.default", "aten._ctc_loss.Tensor"}
                assert not dynamic or name in fixed, name

    def test_what_vouches_for_an_operation_is_a_row_and_has_the_arguments_that_are_compared(self) -> None:
        for name, op in OPS.items():
            if op.witness is not None:
                forward = OPS[op.witness.forward]
                for here, there in op.witness.same:
                    assert op.arguments[here].type == forward.arguments[there].type, name

    def test_the_tracer_records_no_row_under_the_name_of_another(self) -> None:
        aliases = [alias for op in OPS.values() for alias in op.traced_as]
        assert len(set(aliases)) == len(aliases)
        assert not [alias for alias in aliases if alias in OPS and OPS[alias].traced is False]

    def test_the_compiler_finds_the_quicker_forms_that_a_row_names(self) -> None:
        for op in (*OPS.values(), *EXECUTOR_OPS.values()):
            if Trait.IN_PLACE in op.traits:
                assert callable(_in_place(op)), op.name
            if Trait.DIRECT in op.traits:
                assert _quickest(op).__name__ == op.packet, op.name

    @pytest.mark.parametrize("name", ["sigmoid_backward", "tanh_backward", "threshold_backward"])
    def test_the_gradient_of_an_activation_is_written_over_the_gradient_behind_it(self, name: str) -> None:
        op = OPS[f"aten.{name}.default"]
        arguments = [torch.randn(3, 4), torch.rand(3, 4), *([0] if name == "threshold_backward" else [])]
        expected = op.call(*arguments)
        made = _in_place(op)(*arguments)
        assert made.data_ptr() == arguments[0].data_ptr()
        assert torch.equal(made, expected)

    def test_what_only_executors_use_is_no_row_of_the_table(self) -> None:
        assert not EXECUTOR_OPS.keys() & OPS.keys()
        for name in EXECUTOR_OPS:
            assert callable(EXECUTOR_OPS[name].call)
            with pytest.raises(UnsupportedOpError):
                lookup(name)

    def test_an_unknown_name_is_refused_with_what_to_do(self) -> None:
        with pytest.raises(
            UnsupportedOpError, match=r"aten\.rand\.default.*\(at step\.py:3\).*random numbers"
        ):
            lookup("aten.rand.default", "step.py:3")


class TestGraph:
    X = Ref(0)

    def graph(self, *nodes: Node, outputs: tuple[int, ...] = (1,)) -> Graph:
        return Graph((0,), (), nodes, outputs)

    def test_values_are_written_once(self) -> None:
        node = Node("aten.neg.default", (self.X,), (1,))
        with pytest.raises(PlanFormatError, match="%1, which exists already"):
            verify(self.graph(node, node))

    def test_values_are_read_after_they_are_written(self) -> None:
        with pytest.raises(PlanFormatError, match="reads the value %2 before it exists"):
            verify(self.graph(Node("aten.neg.default", (Ref(2),), (1,))))

    def test_outputs_exist(self) -> None:
        with pytest.raises(PlanFormatError, match="output %1"):
            verify(self.graph())

    def test_arguments_are_bound_as_the_schema_wants_them(self) -> None:
        node = Node("aten._to_copy.default", (self.X, "float64"), (1,))
        assert bind(node) == ((self.X,), {"dtype": torch.float64})
        with pytest.raises(PlanFormatError, match="names the dtype 'float99'"):
            bind(Node("aten._to_copy.default", (self.X, "float99"), (1,)))
        with pytest.raises(PlanFormatError, match="does not fit the operator"):
            bind(Node("aten.neg.default", (self.X, 1), (1,)))
        with pytest.raises(PlanFormatError, match="does not fit the operator"):
            bind(Node("aten.mm.default", (self.X,), (1,)))

    def test_a_value_dies_at_its_last_use(self) -> None:
        chain = self.graph(
            Node("aten.neg.default", (self.X,), (2,)),
            Node("aten.add.Tensor", (Ref(2), Ref(2)), (3,)),
            Node("aten.neg.default", (self.X,), (1,)),
        )
        assert chain.last_uses() == [[], [2, 3], [0]]

    def test_a_graph_can_be_read(self) -> None:
        text = str(trace(lambda x: x.sum(dim=1) * 2, torch.zeros(4, 3)))
        assert "%0 = input 0: float32" in text
        assert "%1 = aten.sum.dim_IntList(%0, [1])  # test_pieces.py:" in text


class TestRewriting:
    def ops(self, function: object, *shapes: int) -> list[str]:
        return [n.op for n in trace(function, torch.zeros(shapes)).graph.nodes]  # type: ignore[arg-type]

    def test_two_transpositions_are_none(self) -> None:
        assert self.ops(lambda x: x.t().t(), 4, 3) == []

    def test_permutations_combine(self) -> None:
        x = torch.randn(2, 3, 4)
        plan = trace(lambda x: x.permute(1, 2, 0).permute(2, 0, 1), x)
        assert plan.graph.nodes == ()
        plan = trace(lambda x: x.permute(1, 2, 0).permute(1, 2, 0), x)
        assert len(plan.graph.nodes) == 1
        torch.testing.assert_close(plan(x)[0], x.permute(2, 0, 1))

    def test_only_the_last_shape_counts(self) -> None:
        assert self.ops(lambda x: x.reshape(12).reshape(2, 6), 4, 3).count("aten.reshape.default") == 1

    def test_equal_operations_are_done_once(self) -> None:
        assert self.ops(lambda x: x.exp() + x.exp(), 4, 3).count("aten.exp.default") == 1

    def test_numbers_of_different_types_are_not_equal(self) -> None:
        nodes = tuple(
            Node("aten.mul.Scalar", (Ref(0), number), (i,)) for i, number in enumerate((1, 1.0, True), 1)
        )
        graph = Graph((0,), (), nodes, (1, 2, 3))
        outputs = interpret(simplify(graph), [torch.ones(1, dtype=torch.int64)])
        assert [o.dtype for o in outputs] == [torch.int64, torch.float32, torch.int64]

    def test_an_argument_that_only_equals_the_default_as_a_number_is_kept(self) -> None:
        x = torch.ones(2, 3)
        plan = trace(lambda x: (x, torch.arange(0, 5, 1.0), torch.arange(0, 5, 1)), x)
        assert [o.dtype for o in plan(x)] == [torch.float32, torch.float32, torch.int64]
        plan = trace(lambda x: torch.nn.functional.pad(x, (1, 1), value=-0.0), x)
        for _ in range(2):  # the interpreter's run, the compiled one
            assert torch.signbit(plan(x)[0]).sum() == 4

    def test_one_of_several_tensors_that_were_stacked_is_that_tensor(self) -> None:
        assert self.ops(lambda x: torch.stack([x.sum(), x.mean()])[1], 4, 3) == ["aten.mean.default"]

    @pytest.mark.parametrize("place", [0, 1])
    def test_one_of_several_dtypes_that_were_stacked_has_the_common_one(self, place: int) -> None:
        x = torch.arange(12).reshape(4, 3)
        plan = trace(lambda x: torch.stack([x.sum(), (x * 0.5).mean()])[place], x)
        for _ in range(2):
            assert plan(x)[0].dtype == torch.float32
            assert plan(x)[0] == (66, 2.75)[place]

    def test_dtypes_that_are_not_known_may_differ(self) -> None:
        nodes = (
            Node("aten.unsqueeze.default", (Ref(0), 0), (2,)),
            Node("aten.unsqueeze.default", (Ref(1), 0), (3,)),
            Node("aten.cat.default", ((Ref(2), Ref(3)),), (4,)),
            Node("aten.select.int", (Ref(4), 0, 0), (5,)),
        )
        graph = Graph((0, 1), (), nodes, (5,))
        assert interpret(simplify(graph), [torch.tensor(1), torch.tensor(0.5)])[0].dtype == torch.float32

    def test_what_no_output_needs_is_left_out(self) -> None:
        graph = Graph((0,), ((5, torch.ones(1)),), (Node("aten.neg.default", (Ref(0),), (1,)),), (0,))
        assert prune(graph) == Graph((0,), (), (), (0,))


class TestSpecs:
    @pytest.mark.parametrize(
        "spec",
        [
            PlanInputSpec(PlanInputSpec.TYPE_DATA),
            PlanInputSpec(PlanInputSpec.TYPE_DATA, index=2),
            PlanInputSpec(PlanInputSpec.TYPE_CLIENT_CONFIG_PARAM, "a:b"),
            PlanInputSpec(PlanInputSpec.TYPE_OPTIMIZER_STATE, index=0),
            PlanInputSpec(PlanInputSpec.TYPE_RANDOM, "normal", 3),
        ],
    )
    def test_input_specs_travel_as_one_tag(self, spec: PlanInputSpec) -> None:
        (tag,) = to_tags(spec)
        assert input_from_tags(["#input-0", tag]) == spec

    @pytest.mark.parametrize("index", [None, 0, 7])
    @pytest.mark.parametrize("name", [None, "w", "0", "acc:0", "", ":", "#fedplan:data:1"])
    def test_every_spec_travels(self, name: str | None, index: int | None) -> None:
        for kind in _INPUT_TYPES:
            lacks_name = kind == PlanInputSpec.TYPE_CLIENT_CONFIG_PARAM and name is None
            if not lacks_name and not (kind == PlanInputSpec.TYPE_RANDOM and index is None):
                spec = PlanInputSpec(kind, name, index)
                assert input_from_tags(["#input-0", *to_tags(spec)]) == spec
        for kind in _OUTPUT_TYPES:
            if name is not None or kind != PlanOutputSpec.TYPE_METRIC:
                result = PlanOutputSpec(kind, name, index)
                assert output_from_tags(["#output-0", *to_tags(result)]) == result

    @pytest.mark.parametrize("tag", ["#input-0", "#fedplan:nonsense:1", "#fedplan:clientConfigParam:", ""])
    def test_other_tags_say_nothing(self, tag: str) -> None:
        assert input_from_tags([tag]) is None

    def test_wrong_specs_are_errors(self) -> None:
        with pytest.raises(ValueError, match="'dta' is no type of Plan input; the types are data, target"):
            PlanInputSpec("dta")
        with pytest.raises(ValueError, match="needs the name"):
            PlanInputSpec(PlanInputSpec.TYPE_CLIENT_CONFIG_PARAM)
        with pytest.raises(ValueError, match="a metric output needs a name"):
            PlanOutputSpec(PlanOutputSpec.TYPE_METRIC)
        with pytest.raises(ValueError, match="a random input needs its number"):
            PlanInputSpec(PlanInputSpec.TYPE_RANDOM, "normal")


class TestTensors:
    @pytest.mark.parametrize(
        "dtype",
        [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.float32,
         torch.float64, torch.bool, torch.bfloat16],
    )  # fmt: skip
    def test_every_dtype_goes_there_and_back(self, dtype: torch.dtype) -> None:
        values = torch.tensor([[0, 1, 2], [3, 100, 7]]).to(dtype)
        back = to_torch(from_torch(values.t()))
        assert back.dtype == dtype
        assert torch.equal(back, values.t())

    @pytest.mark.parametrize("dtype", [torch.qint8, torch.quint8, torch.qint32])
    @pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
    def test_quantized_tensors_arrive_as_their_values(self, dtype: torch.dtype) -> None:
        values = torch.quantize_per_tensor(torch.tensor([0.0, 0.5, 1.0]), 0.5, 3, dtype)
        wire = from_torch(values)
        assert isinstance(wire, WireTensor)
        assert (wire.scale, wire.zero_point) == (0.5, 3)
        assert torch.equal(to_torch(wire), values.dequantize())

    def test_a_tensor_from_the_wire_may_be_written(self) -> None:
        to_torch(from_torch(torch.zeros(3))).add_(1)

    def test_a_dtype_that_cannot_travel_says_so(self) -> None:
        with pytest.raises(TensorEncodingError, match="complex64"):
            from_torch(torch.zeros(1, dtype=torch.complex64))
