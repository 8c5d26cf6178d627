"""A worker's policy: what it refuses, with the reason, before anything runs; and its file."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fedplan
from fedplan.client import ConsentPolicy, JobPrivacy, LeastPrivacy, ModelCentricFLClient
from fedplan.errors import ConfigError, CycleDeclinedError, PlanLimitError
from fedplan.grid import Settings, create_app
from fedplan.plan import Limits, Plan, accuracy, evaluation_plan, training_plan
from tests.client.small_grid import serve
from tests.plan.fixtures import FOLDER, needs_fixtures

EXAMPLE = (torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64))
MODEL = nn.Linear(3, 2)
PLAN = training_plan(MODEL, nn.functional.cross_entropy, example=EXAMPLE, metrics={"accuracy": accuracy})
MEASURING = evaluation_plan(nn.Linear(3, 2), lambda out, y: out.tanh().sum(), example=EXAMPLE)
USED = sorted({node.op for node in PLAN.graph.nodes})


def asked(policy: ConsentPolicy, plan: Plan = PLAN) -> str:
    """Why the Plan may not run on batches of eight; nothing when it may."""
    return "; ".join(policy.refusals(plan, 8))


class TestOperations:
    def test_may_be_all(self) -> None:
        assert asked(ConsentPolicy()) == ""

    @pytest.mark.parametrize(
        "allowed",
        [
            USED,
            [op.split(".")[1] for op in USED],
            [".".join(op.split(".")[:2]) for op in USED],
            ["aten.*"],
            ", ".join(USED),
        ],
    )
    def test_are_named_in_each_usual_way(self, allowed: Any) -> None:
        assert asked(ConsentPolicy(allow_ops=allowed)) == ""

    def test_that_are_not_named_are_told(self) -> None:
        reason = asked(ConsentPolicy(allow_ops=[op for op in USED if op != "aten.mm.default"]))
        assert reason == (
            "the Plan 'training_plan' has operations that allow_ops does not name: aten.mm.default"
        )

    def test_that_do_not_exist_are_most_likely_misspelt(self) -> None:
        with pytest.raises(ConfigError, match=r"'rellu' means no operation .*; did you mean 'relu'\?"):
            ConsentPolicy(allow_ops=["rellu"])


class TestBounds:
    @pytest.mark.parametrize(
        ("bound", "words"),
        [
            ({"max_operations": 3}, r"has \d+ operations, and the policy takes 3 at most"),
            ({"max_flops": 10}, r"on a batch of 8: .*10 are allowed"),
            ({"max_memory": 100}, r"on a batch of 8: .*100 are allowed"),
        ],
    )
    def test_that_a_plan_breaks_are_told(self, bound: dict[str, int], words: str) -> None:
        assert re.search(words, asked(ConsentPolicy(**bound)))  # type: ignore[arg-type]

    def test_that_it_keeps_are_fine(self) -> None:
        assert asked(ConsentPolicy(max_operations=500, max_flops=10**6, max_memory=10**6)) == ""

    def test_make_limits_narrower_and_never_wider(self) -> None:
        policy = ConsentPolicy(max_operations=10, max_flops=10**20)
        assert policy.within(Limits(max_bytes=7)) == Limits(max_bytes=7, max_work=Limits().max_work)

    @needs_fixtures
    def test_of_a_plan_without_shapes_are_left_to_the_limits(self) -> None:
        plan = Plan.parse((FOLDER / "small_mlp_sgd" / "list.plan.pb").read_bytes())
        policy = ConsentPolicy(max_flops=1)
        assert policy.refusals(plan, 8) == []
        assert policy.limits.max_work == 1


class TestOutputs:
    def test_may_be_told_that_are_named(self) -> None:
        assert asked(ConsentPolicy(outputs="loss, metrics, parameters")) == ""

    def test_that_are_not_named_are_refused(self) -> None:
        assert asked(ConsentPolicy(outputs=["parameters"])) == (
            "the Plan 'training_plan' would report loss and metrics (accuracy), which the policy's outputs "
            "do not name"
        )

    @needs_fixtures
    def test_of_which_nobody_knows_what_they_are_may_be_anything(self) -> None:
        plan = Plan.parse((FOLDER / "small_mlp_sgd" / "list.plan.pb").read_bytes())
        (reason,) = ConsentPolicy(outputs="parameters").refusals(plan)
        assert "does not say what its outputs" in reason
        assert ConsentPolicy(outputs="loss, metrics, parameters").refusals(plan) == []

    def test_that_do_not_exist_are_most_likely_misspelt(self) -> None:
        with pytest.raises(ConfigError, match=r"outputs: 'metric' is nothing .*did you mean 'metrics'"):
            ConsentPolicy(outputs="loss, metric")


TOLD = {
    "mechanism": "central", "clip": 0.5, "clipping": "fixed", "noise_multiplier": 1.0, "cohort": 10,
    "delta": 1e-5, "epsilon": 3.0,
}  # fmt: skip


class TestPrivacy:
    def test_that_is_promised_is_enough(self) -> None:
        assert (
            LeastPrivacy(max_epsilon=3.0, max_clip=0.5).refusals(
                JobPrivacy.of({"privacy": TOLD}), secure=False
            )
            == []
        )

    @pytest.mark.parametrize(
        ("least", "told", "words"),
        [
            (LeastPrivacy(max_epsilon=2.9), {}, "an ε of 3, and the policy takes 2.9 at most"),
            (LeastPrivacy(max_epsilon=3.0), {"delta": 1e-3}, "a δ of 0.001, and the policy takes 1e-05"),
            (LeastPrivacy(max_clip=0.1), {}, "a clip of 0.5, and the policy takes 0.1"),
            (LeastPrivacy(secure_aggregation=True), {}, "the grid sees each worker's report"),
        ],
    )
    def test_that_is_not_promised_is_told(
        self, least: LeastPrivacy, told: dict[str, Any], words: str
    ) -> None:
        (reason,) = least.refusals(JobPrivacy.of({"privacy": TOLD | told}), secure=False)
        assert words in reason

    def test_is_missing_in_a_cycle_without(self) -> None:
        assert LeastPrivacy(max_epsilon=8.0).refusals(None, secure=False) == [
            "the policy asks for differential privacy, and the cycle has none"
        ]
        assert LeastPrivacy().refusals(None, secure=False) == []
        assert LeastPrivacy(secure_aggregation=True).refusals(None, secure=True) == []

    @pytest.mark.parametrize("wrong", [{"max_epsilon": 0}, {"max_clip": "1"}, {"secure_aggregation": 1}])
    def test_must_be_numbers_that_mean_something(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match=f"privacy.{next(iter(wrong))}"):
            LeastPrivacy(**wrong)


class TestFile:
    def write(self, folder: Path, text: str) -> Path:
        (folder / "policy.toml").write_text(text, encoding="utf-8")
        return folder / "policy.toml"

    def test_holds_a_whole_policy(self, tmp_path: Path) -> None:
        path = self.write(
            tmp_path,
            """
            allow_ops = ["mm", "aten.*"]
            max_operations = 500
            max_flops = 1e9
            max_memory = "1.5 GiB"
            outputs = "loss, parameters"

            [privacy]
            max_epsilon = 8
            max_delta = 1e-6
            """,
        )
        assert ConsentPolicy.read(path) == ConsentPolicy(
            allow_ops=["mm", "aten.*"],
            max_operations=500,
            max_flops=10**9,
            max_memory=3 * 2**29,
            outputs=["loss", "parameters"],
            privacy=LeastPrivacy(max_epsilon=8.0, max_delta=1e-6),
        )

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("alow_ops = []", "'alow_ops' is no key of a policy; did you mean 'allow_ops'?"),
            ("[privacy]\nmax_epsilom = 1", r"no key of \[privacy\]; did you mean 'max_epsilon'"),
            ("max_memory = '12 parsecs'", "max_memory is a number of bytes"),
            ("max_flops = 1.5", "max_flops must be a whole number above 0, and it is 1.5"),
            ("max_operations = true", "max_operations must be a whole number"),
            ("outputs = 7", "outputs must be a list of names"),
            ("privacy = 'much'", "privacy is a table"),
            ("allow_ops = [", "is no TOML"),
        ],
    )
    def test_that_is_wrong_is_refused_with_its_name(self, tmp_path: Path, text: str, words: str) -> None:
        with pytest.raises(ConfigError, match=words) as refused:
            ConsentPolicy.read(self.write(tmp_path, text))
        assert "policy.toml" in str(refused.value)

    def test_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"none\.toml cannot be read: No such file"):
            ConsentPolicy.read(tmp_path / "none.toml")


# With a real grid


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("grid")
    with serve(create_app(Settings(data_dir=folder, poll_seconds=0.05, retry_seconds=0.2))) as url:
        with ModelCentricFLClient(url) as grid:
            plans = {"training_plan": PLAN, "evaluation_plan": MEASURING}
            config = {"name": "m", "version": "1", "batch_size": 4, "lr": 0.1}
            grid.host_federated_training(MODEL, plans, config, {"min_diffs": 1, "max_diffs": 1}, variants=[])
        yield url


def take_part(url: str, policy: ConsentPolicy, **options: Any) -> fedplan.Participation:
    data = torch.randn(8, 3), torch.zeros(8, dtype=torch.int64)
    return fedplan.participate(url, "m", "1", *data, accept=policy, wait=20, **options)


def test_a_policy_that_is_broken_runs_nothing_and_gives_the_place_back(url: str) -> None:
    batches: list[object] = []
    policy = ConsentPolicy(outputs="parameters", max_operations=2)
    with pytest.raises(CycleDeclinedError) as refused:
        take_part(url, policy, events={"batch_start": batches.append})
    assert "would report loss and metrics (accuracy)" in refused.value.reason
    assert "2 at most (max_operations)" in refused.value.reason
    assert batches == []
    with ModelCentricFLClient(url) as grid:
        assert grid.status("m").models[0].cycle.accepted == 0


def test_a_policy_that_is_kept_lets_the_worker_train(url: str) -> None:
    policy = ConsentPolicy(
        allow_ops=[*USED, "tanh", "sum"],
        max_memory=10**6,
        outputs="loss, metrics, parameters",
        privacy=LeastPrivacy(),
    )
    assert take_part(url, policy).cycles == 1


def test_a_policy_is_for_every_plan_of_the_cycle(url: str) -> None:
    with pytest.raises(CycleDeclinedError, match=r"the Plan 'evaluation_plan' has operations .*tanh"):
        take_part(url, ConsentPolicy(allow_ops=USED))


def test_a_policy_asks_the_cycle_for_its_promises(url: str) -> None:
    with pytest.raises(CycleDeclinedError, match="the cycle has none"):
        take_part(url, ConsentPolicy(privacy=LeastPrivacy(max_epsilon=8.0)))


def test_the_bounds_hold_for_the_batches_that_really_run(url: str) -> None:
    cost = PLAN.check([item.with_rows(4) for item in PLAN.inputs])
    policy = ConsentPolicy(max_flops=cost.work)
    assert take_part(url, policy).cycles == 1
    with pytest.raises(PlanLimitError):
        take_part(url, policy, batch_size=8)
