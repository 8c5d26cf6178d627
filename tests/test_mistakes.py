"""The commonest mistakes, and what is said about each: what happened, why, and what to do.

The list was written down before anything was mended. Each error is one of fedplan's own; none is a raw
exception of a library. An argument that a function does not have is Python's own TypeError, which names it.
"""

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import fedplan
from fedplan.errors import FedplanError
from fedplan.grid import Settings, create_app
from tests.client.small_grid import serve

X, Y = torch.randn(16, 6, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 3
EXAMPLE = (X[:4], Y[:4])
CONFIG = {"version": "1", "batch_size": 8, "lr": 0.1}
SECRET = "a secret of at least thirty-two bytes"
OWNER = "an owner's token of a certain length"


def net() -> nn.Module:
    return nn.Linear(6, 3)


def plan_of(model: Any = None, loss: Any = F.cross_entropy, **more: Any) -> fedplan.Plan:
    return fedplan.training_plan(net() if model is None else model, loss, **{"example": EXAMPLE, **more})


PLAN = plan_of()


@dataclasses.dataclass
class Place:
    """A grid with a model `m` for everybody, and one `closed` whose workers need a token."""

    url: str
    numbers: Iterator[int] = dataclasses.field(default_factory=itertools.count)
    opened: list[fedplan.ModelCentricFLClient] = dataclasses.field(default_factory=list)

    def host(self, model: Any = None, plans: Any = None, client: Any = None, **server: Any) -> None:
        config = CONFIG | {"name": f"hosted {next(self.numbers)}"} | (client or {})
        given = {key: value for key, value in config.items() if value is not ...}
        with fedplan.ModelCentricFLClient(self.url, OWNER) as grid:
            grid.host_federated_training(
                net() if model is None else model,
                {"training_plan": PLAN} if plans is None else plans,
                given,
                server,
                variants=[],
            )

    def owner(self, url: str | None = None, token: Any = OWNER) -> fedplan.ModelCentricFLClient:
        retry = fedplan.Retry(attempts=1)
        self.opened.append(fedplan.ModelCentricFLClient(url or self.url, token, retry=retry))
        return self.opened[-1]

    def close(self) -> None:
        while self.opened:
            self.opened.pop().close()

    def train(self, data: Any = X, target: Any = Y, **more: Any) -> fedplan.Participation:
        given = {"url": self.url, "model_name": "m", "model_version": "1", "progress": False} | more
        return fedplan.participate(
            given.pop("url"), given.pop("model_name"), given.pop("model_version"), data, target, **given
        )

    def simulate(self, **more: Any) -> fedplan.Simulation:
        given = {
            "model": net(),
            "plans": {"training_plan": PLAN},
            "clients": [(X, Y)] * 2,
            "client_config": CONFIG | {"name": "m"},
            "server_config": {"min_diffs": 2},
            "rounds": 1,
            "progress": False,
        } | more
        return fedplan.simulate(**given)


class Reads(nn.Module):
    """A network whose forward pass is `work`."""

    def __init__(self, work: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.last = nn.Linear(6, 3)
        self.work = work

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.work(self.last(x))


def token(**claims: Any) -> str:
    return jwt.encode({"sub": "ann", "exp": 4e9} | claims, "another secret of thirty-two bytes", "HS256")


NAN = torch.full((16, 6), float("nan"))

MISTAKES: dict[str, tuple[Callable[[Place], object], str]] = {
    # a Plan
    "a loss that is a class": (lambda g: plan_of(loss=nn.CrossEntropyLoss), r"CrossEntropyLoss.*\(\)"),
    "metrics that are one function": (lambda g: plan_of(metrics=fedplan.accuracy), "metrics.*dict.*accuracy"),
    "an example that is only the data": (lambda g: plan_of(example=X), "example.*data, target"),
    "no example": (lambda g: fedplan.training_plan(net(), F.cross_entropy), "example"),
    "labels as floats": (lambda g: plan_of(example=(X, Y.float())), "float.*int64|dtype"),
    "data of another width than the model": (
        lambda g: plan_of(example=(X[:, :5], Y)),
        "in Linear: .*5. X .6",
    ),
    "a model's class": (lambda g: plan_of(nn.Linear), "nn.Module.*Linear"),
    "a state_dict as the model of a Plan": (lambda g: plan_of(net().state_dict()), "OrderedDict.*nn.Module"),
    "an optimizer by its name": (lambda g: plan_of(optimizer="Adam"), "torch.optim.Adam"),
    "an optimizer that needs a closure": (lambda g: plan_of(optimizer=torch.optim.LBFGS), "LBFGS"),
    "a learning rate as a tensor": (lambda g: plan_of(lr=torch.tensor(0.1)), "lr is a Tensor"),
    "a private tensor misspelt": (lambda g: plan_of(private=["wieght"]), "'wieght'.*did you mean 'weight'"),
    "private as a text": (lambda g: plan_of(private="weight"), r"\['weight'\]"),
    "nothing to train": (
        lambda g: plan_of(net().requires_grad_(False)),
        "no parameter that requires a gradient",
    ),
    "a number read from data": (lambda g: plan_of(Reads(lambda x: x * x.max().item())), "item|value"),
    "a branch on data": (lambda g: plan_of(Reads(lambda x: x if x.sum() > 0 else -x)), "test_mistakes.py:"),
    "an operation that no Plan has": (lambda g: plan_of(Reads(lambda x: x[x > 0].sum() + x)), "where"),
    "a lazy layer": (lambda g: plan_of(nn.LazyLinear(3)), "no shape yet"),
    "a loss that is no scalar": (
        lambda g: plan_of(loss=lambda out, y: F.cross_entropy(out, y, reduction="none")),
        "scalar",
    ),
    "an argument misspelt": (lambda g: plan_of(optimzer=torch.optim.Adam), "optimzer"),
    # hosting
    "a key of the server_config misspelt": (
        lambda g: g.host(max_wokers=3),
        "max_wokers.*did you mean 'max_workers'",
    ),
    "a learning rate that is missing": (lambda g: g.host(client={"lr": ...}), "'lr', which is not there"),
    "a learning rate misspelt": (lambda g: g.host(client={"lr": ..., "Lr": 0.1}), "'lr'.*keys are.*Lr"),
    "a model without a name": (lambda g: g.host(client={"name": ...}), "'name'"),
    "a version that is a number": (lambda g: g.host(client={"version": 1}), "'version'.*string"),
    "a count that is a text": (lambda g: g.host(min_diffs="8"), "'min_diffs'.*integer"),
    "a Plan without a name": (lambda g: g.host(plans=PLAN), r"\{'training_plan': plan\}"),
    "a version that exists": (
        lambda g: g.host(client={"name": "m"}),
        "'m' version '1' is hosted already; choose another version",
    ),
    "an owner's token that is wrong": (
        lambda g: g.owner(token="wrong").status(),
        "token.*(FEDPLAN_OWNER_TOKEN|owner)",
    ),
    "no owner's token": (lambda g: g.owner(token=None).status(), "token"),
    "an owner's token with a line break": (lambda g: g.owner(token=f"{OWNER}\n").status(), r"strip\(\)"),
    "another model than the Plan's": (lambda g: g.host(nn.Linear(5, 3)), "weight|parameter 0"),
    "a state_dict with other names": (lambda g: g.host({"wieght": X, "bias": Y}), "did you mean"),
    "less reports at most than at least": (
        lambda g: g.host(min_diffs=5, max_diffs=2),
        "min_diffs.*more than max_diffs",
    ),
    "a strategy misspelt": (lambda g: g.host(strategy="fedadm"), "fedadm.*did you mean 'fedadam'"),
    "a setting of a strategy misspelt": (
        lambda g: g.host(strategy={"name": "fedadam", "beta_1": 0.9}),
        "beta_1.*did you mean 'beta1'",
    ),
    "privacy without tokens": (
        lambda g: g.host(privacy={"clip": 1.0, "noise_multiplier": 1.0, "cohort": 2, "delta": 1e-5}),
        "authentication",
    ),
    "a report format misspelt": (lambda g: g.host(report_formats=["flaot16"]), "float16"),
    # addresses
    "a grid that is not there": (
        lambda g: g.owner("http://127.0.0.1:9").status(),
        "127.0.0.1:9.*running|reach",
    ),
    "a URL without a scheme": (lambda g: g.owner("127.0.0.1:5000").status(), "must begin with https://"),
    "a port that is none": (lambda g: g.owner("http://127.0.0.1:99999").status(), "port"),
    "a path that is not the grid's": (
        lambda g: g.owner(f"{g.url}/elsewhere").status(),
        "nothing at this address",
    ),
    "another machine in plain text": (
        lambda g: g.train(url="ws://grid.example"),
        "not encrypted.*allow_plain_text",
    ),
    # what is hosted
    "a model that is not hosted": (lambda g: g.owner().retrieve_model("mm", "1"), "'mm'.*fedplan status"),
    "a version that is not hosted": (lambda g: g.owner().retrieve_model("m", "2"), "'2'.*fedplan status"),
    "a checkpoint that is not there": (lambda g: g.owner().retrieve_model("m", "1", 99), "'99'.*latest"),
    "a checkpoint loaded into another module": (
        lambda g: g.owner().retrieve_model("m", "1").load_into(nn.Linear(2, 2)),
        r"shape \[3, 6\].*\[2, 2\]",
    ),
    "a wait for what never comes": (
        lambda g: g.owner().wait("m", "1", checkpoint=199),
        "will never be there",
    ),
    # a worker
    "training a model that is not hosted": (lambda g: g.train(model_name="mm"), "'mm'"),
    "training without a token": (lambda g: g.train(model_name="closed"), "token"),
    "training with another's token": (
        lambda g: g.train(model_name="closed", auth_token=token()),
        "token.*signature",
    ),
    "data and target of different lengths": (lambda g: g.train(X, Y[:8]), "16.*8"),
    "no data": (lambda g: g.train(X[:0], Y[:0]), "nothing to train on|no sample"),
    "an empty loader": (
        lambda g: g.train(DataLoader(TensorDataset(X[:3], Y[:3]), 8, drop_last=True), None),
        "no batch",
    ),
    "no target": (lambda g: g.train(X, None), "target"),
    "labels as floats with fractions": (lambda g: g.train(X, Y + 0.5), "target"),
    "data as complex numbers": (lambda g: g.train(X + 1j * X), "complex64.*float32"),
    "data of another width": (lambda g: g.train(X[:, :5]), r"'data' has the shape \(8 × 5\)"),
    "images that are not flat": (lambda g: g.train(X.reshape(16, 2, 3)), r"the shape \(8 × 2 × 3\)"),
    "labels as columns": (lambda g: g.train(X, Y.reshape(16, 1)), r"'target' has the shape \(8 × 1\)"),
    "labels that no class has": (lambda g: g.train(X, Y + 3), "Target 3 is out of bounds"),
    "NaN in the data": (lambda g: g.train(NAN), "NaN.*the data.*learning rate"),
    "data of texts": (lambda g: g.train(np.array(["a"] * 16)), "cannot become a tensor"),
    "data that is a list of numbers": (lambda g: g.train(X.tolist()), "list.*(tensor|array)"),
    "a Plan's name misspelt": (lambda g: g.train(plan="trainin_plan"), "'trainin_plan'.*'training_plan'"),
    "a batch size of zero": (lambda g: g.train(batch_size=0), "batch_size"),
    "epochs as a text": (lambda g: g.train(epochs="3"), "epochs"),
    "a device misspelt": (lambda g: g.train(device="cudaa"), "cudaa"),
    "an event misspelt": (
        lambda g: g.train(events={"batch_ended": print}),
        "'batch_ended'.*did you mean 'batch_end'",
    ),
    "a handler that is called": (lambda g: g.train(events={"batch_end": print()}), "batch_end"),
    "accept that is no function": (lambda g: g.train(accept=True), "takes a Job"),
    "a report format that the model does not take": (
        lambda g: g.train(report_format="flaot16"),
        "flaot16.*float32",
    ),
    "a wait that is a text": (lambda g: g.train(wait="soon"), "wait"),
    "a seed that is none": (lambda g: g.train(seed=-1), "seed"),
    "a key of a policy misspelt": (
        lambda g: fedplan.ConsentPolicy.of({"alow_ops": []}),
        "did you mean 'allow_ops'",
    ),
    "an argument of participate misspelt": (lambda g: g.train(epoch=3), "epoch"),
    # a simulation
    "a simulation without clients": (lambda g: g.simulate(clients=[]), "client"),
    "an engine misspelt": (lambda g: g.simulate(engine="sequental"), "sequental.*did you mean 'sequential'"),
    "a cohort larger than the population": (lambda g: g.simulate(cohort=5), "cohort.*2"),
    "clients that are one pair of tensors": (lambda g: g.simulate(clients=(X, Y)), "clients?"),
    "a simulated key misspelt": (
        lambda g: g.simulate(server_config={"min_difs": 1}),
        "did you mean 'min_diffs'",
    ),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("grid")
    settings = Settings(data_dir=folder, poll_seconds=0.05, retry_seconds=0.1, owner_token=OWNER)
    with serve(create_app(settings)) as url:
        place = Place(url)
        place.host(client={"name": "m"}, num_cycles=100)
        place.host(client={"name": "closed"}, authentication={"secret": SECRET})
        yield place


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_words(place: Place, mistake: str) -> None:
    make, words = MISTAKES[mistake]
    try:
        with pytest.raises((FedplanError, TypeError)) as told:
            make(place)
    finally:
        place.close()
    text = str(told.value)
    if isinstance(told.value, TypeError):  # the language's own: it names the argument
        assert re.search(r"(un)?expected keyword argument|required keyword-only argument", text), text
    assert re.search(words, text, re.DOTALL), text
    assert len(text) < 1500
