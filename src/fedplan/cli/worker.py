"""`fedplan worker`: training a hosted model on data that stays here."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedplan.cli.files import read_arrays
from fedplan.cli.options import AllowPlainText, AsJson, Model, Url, Verbose, Version, read_option
from fedplan.cli.terminal import echo, print_json

if TYPE_CHECKING:
    from fedplan.client import ExamplePrivacy, Participation

_DELTA = 1e-5
"""For which the ε of DP-SGD is shown."""


def worker(
    url: Url,
    model: Model,
    version: Version,
    data: Annotated[
        Path,
        read_option(
            "--data",
            "D.npz",
            "The samples: numpy.savez(FILE, x=data, y=targets), one row a sample. Without `x` and `y` the "
            "first two arrays are taken.",
        ),
    ],
    evaluation_data: Annotated[
        Path | None,
        read_option(
            "--evaluation-data",
            "E.npz",
            "Samples to measure the model with, in the same form, if its owner wants it measured; by default "
            "those of --data.",
        ),
    ] = None,
    batches: Annotated[
        int | None,
        typer.Option(
            "--batches", metavar="N", min=1, help="Most batches of an epoch; by default the model's."
        ),
    ] = None,
    cycles: Annotated[
        int | None,
        typer.Option("--cycles", metavar="N", min=1, help="Cycles to train in; by default all there are."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            min=0,
            help="Makes the training repeatable: decides the order of the samples, which are shuffled "
            "once (by default always in the same way), and the random numbers of dropout and noise (from the "
            "operating system by default).",
        ),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            "--state",
            metavar="FOLDER",
            file_okay=False,
            help="Where the worker keeps the tensors that are private to it, if the model has such. Each "
            "worker needs a folder of its own.",
        ),
    ] = None,
    inputs: Annotated[
        str | None,
        typer.Option(
            "--inputs",
            metavar="NAME,…",
            help="What the arguments of the Plan stand for, in order, if it does not say so, as PySyft's do "
            "not (mostly it can be told): data, target, batch_size, params, or keys of the client config, "
            "such as lr.",
        ),
    ] = None,
    outputs: Annotated[
        str | None,
        typer.Option(
            "--outputs",
            metavar="NAME,…",
            help="What such a Plan returns: loss, params, or names for its metrics. By default the first is "
            "the loss, and the last ones are params.",
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device", metavar="NAME", help="Where to train, such as cuda or mps; the CPU by default."
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        read_option(
            "--policy",
            "P.toml",
            "What may run on your data, and what may be reported: allow_ops, max_operations, max_flops, "
            "max_memory, outputs, [privacy]. Each cycle is held against it before anything runs.",
        ),
    ] = None,
    review: Annotated[
        bool,
        typer.Option(
            "--review",
            help="Show the Plan, as `fedplan plan show` does, and ask before it runs on your data.",
        ),
    ] = False,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            metavar="TOKEN",
            envvar="FEDPLAN_AUTH_TOKEN",
            help="The token that the model's authentication asks for. In the environment it is safer.",
        ),
    ] = None,
    client_cert: Annotated[
        Path | None,
        read_option(
            "--client-cert",
            "CERT.pem",
            "The client certificate that the model's authentication asks for, in PEM, with those of the "
            "authorities between.",
        ),
    ] = None,
    client_key: Annotated[
        Path | None,
        read_option(
            "--client-key",
            "KEY.pem",
            "The key of that certificate, in PEM, without a password; by default it is in the same file.",
        ),
    ] = None,
    ca: Annotated[
        Path | None,
        read_option(
            "--ca",
            "CA.pem",
            "The authorities by which the grid's own certificate is checked, in PEM; by default the usual "
            "ones, or those of SSL_CERT_FILE.",
        ),
    ] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
    allow_plain_text: AllowPlainText = False,
) -> None:
    """Train a hosted model on your own data, which never leaves this machine.

    The worker asks the grid for a cycle, trains with the Plan `training_plan`, and reports the difference
    that training made; then it waits for the next cycle, until the model is finished. It runs no code from
    the grid: `--review` shows all that the Plan does, and asks before anything runs; `--policy` holds it
    against a file of yours (docs/plans.md has an example), and with both you are asked about what passes.

    With a ws:// or wss:// URL messages go over a WebSocket, else over HTTP. Other machines than this one
    need https:// or wss://. A model that asks for a client certificate gets it by `--client-cert` and
    `--client-key`; which authority has to make it, the grid's operator says.

    Example:

    ```
    fedplan worker --url ws://127.0.0.1:5000 \\
        --model mnist --version 1.0.0 --data mine.npz
    ```

    A Plan that PySyft made does not say what its arguments stand for. Where it cannot be told either, name
    them: `--inputs data,target,batch_size,lr,params`.
    """
    import numpy as np

    from fedplan.cli.review import Review, check_terminal
    from fedplan.client import ConsentPolicy, participate
    from fedplan.plan.run.check import DEFAULT_LIMITS

    if review:
        check_terminal()
    allowed = None if policy is None else ConsentPolicy.read(policy)
    x, y = read_arrays(data)
    evaluation = (None, None) if evaluation_data is None else read_arrays(evaluation_data)
    order = np.random.default_rng(seed or 0).permutation(len(x))
    done = participate(
        url,
        model,
        version,
        x[order],
        y[order],
        auth_token=token,
        evaluation_data=evaluation[0],
        evaluation_target=evaluation[1],
        accept=Review("training_plan", allowed) if review else allowed,
        limits=DEFAULT_LIMITS if allowed is None else allowed.limits,
        cycles=cycles,
        wait=True,
        inputs=_names(inputs),
        outputs=_names(outputs),
        steps_per_epoch=batches,
        seed=seed,
        state=state,
        device=device,
        verbose=verbose,
        allow_plain_text=allow_plain_text or None,
        client_cert=client_cert,
        client_key=client_key,
        ca=ca,
    )
    if as_json:
        print_json(summary(done))
    else:
        echo(_in_words(done))


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",")]


def summary(done: "Participation") -> dict[str, Any]:
    """What a worker did, in numbers; loss and metrics are means over its last cycle of training."""
    spent = done.example_privacy
    return {
        "cycles": done.cycles,
        "evaluations": done.evaluations,
        "refused": done.refused,
        "loss": done.losses[-1] if done.losses else None,
        "metrics": {name: means[-1] for name, means in done.metrics.items()},
        **({} if spent is None else {"dp_sgd": [dataclasses.asdict(run) for run in spent.runs]}),
    }


def _in_words(done: "Participation") -> str:
    """The same for people: ``2 cycles, 1 evaluation, loss 0.31``."""
    from fedplan.text import counted

    told = summary(done)
    counts = [counted(done.cycles, "cycle")]
    if done.evaluations:
        counts.append(counted(done.evaluations, "evaluation"))
    if done.refused:
        counts.append(f"{counted(done.refused, 'report')} refused")
    scores = {"loss": told["loss"], **told["metrics"]}
    words = ", ".join(
        [*counts, *(f"{name} {value:.4g}" for name, value in scores.items() if value is not None)]
    )
    if done.example_privacy is None:
        return words
    return (
        f"{words}\nDP-SGD on your examples: {done.example_privacy}\n{_epsilon_in_words(done.example_privacy)}"
    )


def _epsilon_in_words(spent: "ExamplePrivacy") -> str:
    from fedplan.errors import ConfigError

    try:
        return (
            f"each example: ε = {spent.epsilon(_DELTA):.4g} at δ = {_DELTA:g}, if the Plan does what it says"
        )
    except ConfigError as error:
        return str(error)
