"""`fedplan plan`."""

import dataclasses
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from fedplan.plan import DpSgd, Plan, RandomStream, trace, with_variants
from fedplan.wire import State, WireTensor
from tests.cli.conftest import Invoke, Project, fedplan_process
from tests.plan.fixtures import FOLDER, cases, needs_fixtures


def read(path: Path) -> State:
    return State.parse(path.read_bytes())


def assert_close(ours: State, theirs: State) -> None:
    assert [(t.shape, t.dtype) for t in ours.tensors] == [(t.shape, t.dtype) for t in theirs.tensors]
    for a, b in zip(ours.tensors, theirs.tensors, strict=True):
        np.testing.assert_allclose(a.array, b.array, rtol=1e-5, atol=1e-5)


@needs_fixtures
@pytest.mark.parametrize("name", ["small_mlp_sgd", "eq_op"])
def test_a_plan_of_pysyft_runs_to_its_expected_output(fedplan: Invoke, tmp_path: Path, name: str) -> None:
    # eq_op: PySyft evaluated the comparison while it traced; Plan and expected output are both empty
    (folder,) = (folder for folder in cases() if folder.name == name)
    out = tmp_path / "out.pb"
    result = fedplan(
        "plan", "run", folder / "list.plan.pb", "--inputs", folder / "input.state.pb", "--out", out
    )
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert_close(read(out), read(folder / "expected_output.state.pb"))


@needs_fixtures
def test_a_plan_runs_from_the_shell(tmp_path: Path) -> None:
    folder, out = FOLDER / "small_mlp_sgd", tmp_path / "out.pb"
    arguments = (folder / "list.plan.pb", "--inputs", folder / "input.state.pb", "--out", out)
    with fedplan_process("plan", "run", *arguments) as process:
        assert process.communicate(timeout=60) == ("", f"{out}: 6 tensors\n")
    assert process.returncode == 0
    assert_close(read(out), read(folder / "expected_output.state.pb"))


def test_the_words_of_a_plan_cannot_steer_the_terminal(fedplan: Invoke, tmp_path: Path) -> None:
    plan = trace(lambda x: x + 1, torch.zeros(2), name="a\x1b]0;owned\x07")
    (tmp_path / "plan.pb").write_bytes(plan.serialize())
    shown = fedplan("plan", "show", tmp_path / "plan.pb")
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith("Plan 'a\\x1b]0;owned\\x07', ")
    assert "\x1b" not in shown.stdout


def test_arguments_that_do_not_fit_are_refused_and_nothing_is_written(
    fedplan: Invoke, project: Project, tmp_path: Path
) -> None:
    out = tmp_path / "out.pb"
    result = fedplan("plan", "run", project["plan.pb"], "--inputs", project["model.pb"], "--out", out)
    assert result.exit_code == 1
    assert "takes 5 arguments (data, target, lr, weight, bias), not 2" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_is_an_error(
    fedplan: Invoke, project: Project, tmp_path: Path
) -> None:
    tensors = [
        WireTensor(np.zeros((4, 3), "<f4"), "float32"),
        WireTensor(np.zeros(4, "<i8"), "int64"),
        WireTensor(np.zeros(1, "<f4"), "float32"),
        *read(project["model.pb"]).tensors,
    ]
    arguments, out = tmp_path / "arguments.pb", tmp_path / "no" / "out.pb"
    arguments.write_bytes(State.of(tensors).serialize())
    result = fedplan("plan", "run", project["plan.pb"], "--inputs", arguments, "--out", out)
    assert result.exit_code == 1
    assert result.stderr.endswith("No such file or directory\n")


def test_show_lists_inputs_outputs_and_every_operation(fedplan: Invoke, project: Project) -> None:
    output = fedplan("plan", "show", project["plan.pb"]).output
    assert output.startswith("Plan 'training_plan', ")
    for line in ("any×3", "float32", "data", "target", "lr", "weight", "loss", "accuracy"):
        assert line in output
    assert "= mm(%" in output
    assert "32×2" in output  # a result's shape for the batch size that the estimate is for
    assert "One run on a batch of 32 holds " in output


def test_show_says_what_a_report_would_tell(fedplan: Invoke, project: Project) -> None:
    output = fedplan("plan", "show", project["plan.pb"]).output
    told = output.split("what a worker's report would tell the grid\n")[1]
    assert re.search(r"the change of 2 tensors, 32 B +weight, bias\n", told)
    assert re.search(r"metrics +the means of accuracy\n", told)
    leaves = json.loads(fedplan("plan", "show", project["plan.pb"], "--json").output)["leaves"]
    assert leaves["parameters"] == ["weight", "bias"]
    assert re.search(r"operations by name\n  .*addmm, .*mm", output)


def test_show_says_the_constants_of_dp_sgd(fedplan: Invoke, project: Project, tmp_path: Path) -> None:
    dp = DpSgd(max_grad_norm=0.5, noise_multiplier=1.1, expected_batch_size=64)
    plan = dataclasses.replace(Plan.parse(Path(project["plan.pb"]).read_bytes()), dp=dp)
    (tmp_path / "private.pb").write_bytes(plan.serialize())
    output = fedplan("plan", "show", tmp_path / "private.pb").output
    assert f"\n{dp} (its author says)\n" in output
    told = json.loads(fedplan("plan", "show", tmp_path / "private.pb", "--json").output)
    assert told["dp_sgd"] == dataclasses.asdict(dp)
    assert not told["leaves"]["loss"]
    assert json.loads(fedplan("plan", "show", project["plan.pb"], "--json").output)["dp_sgd"] is None


def test_show_tells_how_another_plan_differs(fedplan: Invoke, tmp_path: Path) -> None:
    one, other = tmp_path / "one.pb", tmp_path / "other.pb"
    one.write_bytes(trace(lambda x: x.relu() + 1, torch.zeros(4, 3)).serialize())
    other.write_bytes(trace(lambda x: x.tanh() + 1, torch.zeros(4, 3)).serialize())
    shown = fedplan("plan", "show", one, "--diff", other)
    assert shown.exit_code == 0, shown.output
    assert "- %1 = relu(%0)\n+ %1 = tanh(%0)\n  %2 = add(%1, 1)\n" in shown.stdout
    assert "Memory of one run: " in shown.stdout
    same = fedplan("plan", "show", one, "--diff", one)
    assert "Both do the same" in same.stdout
    assert json.loads(fedplan("plan", "show", one, "--diff", other, "--json").stdout)["differ"] is True


def test_show_draws_the_graph(fedplan: Invoke, project: Project, tmp_path: Path) -> None:
    drawn = tmp_path / "plan.svg"
    shown = fedplan("plan", "show", project["plan.pb"], "--svg", drawn)
    assert shown.exit_code == 0, shown.output
    texts = [text.text for text in ElementTree.parse(drawn).iter("{http://www.w3.org/2000/svg}text")]
    assert {"data", "addmm", "32×2", "loss"} <= set(texts)


def test_the_estimate_is_for_the_batch_size_that_was_asked_for(fedplan: Invoke, project: Project) -> None:
    small, large = (
        json.loads(fedplan("plan", "show", project["plan.pb"], "--json", "--batch", batch).output)["estimate"]
        for batch in (1, 1000)
    )
    assert (small["batch"], large["batch"]) == (1, 1000)
    assert large["peak_bytes"] > 100 * small["peak_bytes"]
    assert large["work"] > 100 * small["work"]


def test_show_gives_json(fedplan: Invoke, project: Project) -> None:
    listing = json.loads(fedplan("plan", "show", project["plan.pb"], "--json").output)
    assert listing["name"] == "training_plan"
    assert listing["bytes"] == project["plan.pb"].stat().st_size
    data, _, _, weight, _ = listing["inputs"]
    assert data == {"value": "%0", "name": "data", "kind": None, "shape": [None, 3], "dtype": "float32"}
    assert weight["kind"] == "trained"
    assert [item["name"] for item in listing["outputs"]] == [
        "loss", "accuracy", "weight", "bias"
    ]  # fmt: skip
    assert listing["outputs"][2]["shape"] == [2, 3]
    matmul = next(item for item in listing["operations"] if item["op"].startswith("aten.mm"))
    assert matmul["arguments"].keys() == {"self", "mat2"}
    assert matmul["text"].startswith(f"{matmul['results'][0]} = mm(%")
    assert len(matmul["shapes"][0]) == 2


def test_the_estimate_of_a_pinned_plan_is_for_its_own_size(fedplan: Invoke, tmp_path: Path) -> None:
    (tmp_path / "plan.pb").write_bytes(trace(torch.relu, torch.zeros(8, 4), pin_batch=True).serialize())
    shown = fedplan("plan", "show", tmp_path / "plan.pb", "--batch", 5)
    assert "One run at the size that the Plan is for holds" in shown.output


class TestRandomInputs:
    @pytest.fixture
    def plan(self, tmp_path: Path) -> Plan:
        plan = trace(lambda x: torch.nn.functional.dropout(x, 0.25), torch.ones(4, 1000))
        (tmp_path / "plan.pb").write_bytes(plan.serialize())
        (tmp_path / "x.pb").write_bytes(
            State.of([WireTensor(np.ones((4, 1000), "<f4"), "float32")]).serialize()
        )
        return plan

    def test_show_says_how_they_are_drawn(self, fedplan: Invoke, tmp_path: Path, plan: Plan) -> None:
        listed = fedplan("plan", "show", tmp_path / "plan.pb").output
        assert re.search(r"%1 +random 0 +uniform +any×1000 +float32", listed)

    def test_run_draws_them_with_a_seed(self, fedplan: Invoke, tmp_path: Path, plan: Plan) -> None:
        arguments = ("plan", "run", tmp_path / "plan.pb", "--inputs", tmp_path / "x.pb", "--out")
        assert fedplan(*arguments, tmp_path / "out.pb", "--seed", 5).exit_code == 0
        expected = plan(torch.ones(4, 1000), random=RandomStream(5))[0].numpy()
        assert 0.2 < (expected == 0).mean() < 0.3
        np.testing.assert_array_equal(read(tmp_path / "out.pb").tensors[0].array, expected)

    def test_without_a_seed_they_are_arguments(self, fedplan: Invoke, tmp_path: Path, plan: Plan) -> None:
        result = fedplan(
            "plan", "run", tmp_path / "plan.pb", "--inputs", tmp_path / "x.pb", "--out", tmp_path / "out.pb"
        )
        assert result.exit_code == 1
        assert "takes 2 arguments" in result.stderr


@needs_fixtures
def test_show_works_for_a_plan_that_says_no_shapes(fedplan: Invoke) -> None:
    path = FOLDER / "small_mlp_sgd" / "list.plan.pb"
    output = fedplan("plan", "show", path).output
    assert "= matmul(%0, %8)" in output
    assert "does not say the shapes of its inputs" in output
    assert "refused" in json.loads(fedplan("plan", "show", path, "--json").output)["estimate"]


@needs_fixtures
def test_show_lists_the_tensors_that_belong_to_a_plan(fedplan: Invoke) -> None:
    assert "constant  1×3" in fedplan("plan", "show", FOLDER / "state_func" / "list.plan.pb").output


@needs_fixtures
def test_show_says_as_what_a_plan_is_held(fedplan: Invoke, project: Project) -> None:
    whole = FOLDER / "small_mlp_sgd" / "as_sent_by_client.plan.pb"
    assert "held as list, torchscript, tfjs" in fedplan("plan", "show", whole).output
    assert "held as" not in fedplan("plan", "show", project["plan.pb"]).output


class TestCheck:
    def test_shows_how_near_each_variant_would_come(self, fedplan: Invoke, project: Project) -> None:
        result = fedplan("plan", "check", project["plan.pb"])
        assert result.exit_code == 0, result.output
        rows = [line.split("made when hosted") for line in result.stdout.splitlines() if "made" in line]
        assert [(name.strip(), float(error) < 1e-5) for name, error in rows] == [
            ("torchscript", True),
            ("tfjs", True),
        ]

    def test_checks_what_the_file_holds(self, fedplan: Invoke, project: Project, tmp_path: Path) -> None:
        plan = with_variants(Plan.parse(project["plan.pb"].read_bytes()))
        (tmp_path / "whole.pb").write_bytes(plan.serialize())
        result = fedplan("plan", "check", tmp_path / "whole.pb", "--json")
        findings = json.loads(result.stdout)
        assert [(finding["variant"], finding["held"]) for finding in findings] == [
            ("torchscript", True),
            ("tfjs", True),
        ]
        assert all(0 <= finding["error"] < 1e-5 for finding in findings)
        assert set(findings[0]["errors"]) == {output.name for output in plan.outputs}

    def test_refuses_a_variant_that_differs(self, fedplan: Invoke, project: Project, tmp_path: Path) -> None:
        plan = with_variants(Plan.parse(project["plan.pb"].read_bytes()))
        role = plan.variants.tfjs
        assert role is not None
        next(action for action in role.actions if action.command == "tf.add").command = "tf.sub"
        (tmp_path / "broken.pb").write_bytes(plan.serialize())
        result = fedplan("plan", "check", tmp_path / "broken.pb")
        assert result.exit_code == 1
        assert "broken.pb: the tfjs variant of the Plan 'training_plan' differs" in result.stderr
        assert "The first operation that differs is '%" in result.stderr

    def test_says_why_there_is_no_such_variant(self, fedplan: Invoke, tmp_path: Path) -> None:
        (tmp_path / "plan.pb").write_bytes(trace(lambda x: x & 3, torch.zeros(4, 3).int()).serialize())
        result = fedplan("plan", "check", tmp_path / "plan.pb")
        assert result.exit_code == 0
        (line,) = (line for line in result.stdout.splitlines() if line.strip().startswith("tfjs"))
        assert re.search(r"cannot be had +the operation 'aten\.bitwise_and", line)

    @needs_fixtures
    def test_takes_inputs_for_a_plan_that_does_not_say_its_own(self, fedplan: Invoke) -> None:
        folder = FOLDER / "small_mlp_sgd"
        plan = folder / "as_sent_by_client.plan.pb"
        assert fedplan("plan", "check", plan, "--inputs", folder / "input.state.pb").exit_code == 0
        without = fedplan("plan", "check", plan)
        assert without.exit_code == 1
        assert "give the inputs to try" in without.stderr
