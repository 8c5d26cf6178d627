"""A model that is trained with secure aggregation, its workers, and a record of what each adds to the sum."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from fedplan.client import ModelCentricFLClient, Syft
from fedplan.client.secure import attending
from fedplan.errors import CycleRejectedError, SecureRoundError
from fedplan.federation.secure import (
    Lists,
    Manifest,
    Masked,
    MaskStreams,
    Payload,
    Roster,
    RosterMember,
    Terms,
    check_answer,
    check_report,
    dequantise,
)
from fedplan.federation.secure.keys import self_key
from fedplan.federation.secure.payload import sum_of
from fedplan.federation.secure.shamir import SHARE_BYTES, combine
from tests.client.training_cases import BATCH, CLASSES, FEATURES, make_model, make_plan

VERSION = "1.0"
LENGTH = 1000.0
"""Seconds of each stage: so long that only the tests' own clock ends one."""


def secure(workers: int = 10, **changes: Any) -> dict[str, Any]:
    lengths = dict.fromkeys(("gather_length", "training_length", "stage_length"), LENGTH)
    config = {"workers": workers, "clip": 1.0, **lengths} | changes.pop("secure_aggregation", {})
    return {"max_weight": 100.0, "num_cycles": 3, "secure_aggregation": config} | changes


async def host(owner: ModelCentricFLClient, name: str, config: dict[str, Any], **more: Any) -> None:
    arguments: dict[str, Any] = {
        "model": make_model(),
        "client_plans": {"training_plan": make_plan()},
        "client_config": {"name": name, "version": VERSION, "batch_size": BATCH, "lr": 0.1},
        "server_config": config,
        "variants": (),
    }
    await owner.host_federated_training_async(**arguments | more)


def data_of(worker: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(100 + worker)
    samples = 5 + worker
    images = torch.randn(samples, FEATURES, generator=generator)
    return images, torch.randint(0, CLASSES, (samples,), generator=generator)


class JumpingClock:
    """Time that runs as it does, and jumps when a test wants a deadline to pass."""

    def __init__(self) -> None:
        self.shift = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.shift


class GoneError(Exception):
    """A worker is gone, as if its process were killed: it tells the grid nothing."""


class Workers:
    """Workers in one secure round, by the calls of a `Job`.

    Attributes:
        sent: how many messages the grid has taken, by stage.
        payloads: what each worker adds to the sum, by its number: this is what the grid must not see.
        manifest: of the round.
    """

    def __init__(self, url: str, name: str, monkeypatch: Any, heard: Callable[[str], None] | None = None):
        self.url, self.name = url, name
        self.sent: Counter[str] = Counter()
        self.payloads: dict[int, Payload] = {}
        self.diffs: dict[int, bytes] = {}
        self.manifest: Manifest | None = None
        self._heard = heard or (lambda _stage: None)
        original = attending.payload_of

        def recording(manifest: Manifest, *arguments: Any) -> Any:
            payload, left = original(manifest, *arguments)
            weight = manifest.figures[1].decoded(payload.figures[1])
            self.payloads[round(weight) - 5], self.manifest = payload, manifest  # see `data_of`
            return payload, left

        monkeypatch.setattr(attending, "payload_of", recording)

    async def one(self, number: int, leaves: str = "") -> str:
        """A worker that may be gone: when it has its "place", or after its "keys", "shares" or "reports"."""
        async with Syft(self.url) as syft:
            job = syft.new_job(self.name, VERSION)
            job._remainder.left = ()
            if leaves == "place":
                job._enter = _gone

            @job.on("secure_stage")
            def taken(event: Any) -> None:
                self.sent[event.stage] += 1
                self._heard(event.stage)
                if event.stage == leaves:
                    raise GoneError

            job.decline = _nothing  # a process that is gone gives no place back
            try:
                await job.start()
                images, labels = data_of(number)
                trained = await job.train("training_plan", data=images, target=labels).wait()
                self.diffs[number] = await job.model.create_serialized_diff_from_model(trained)
                await job.report(self.diffs[number])
            except GoneError:
                return f"gone after {leaves}"
            except SecureRoundError as error:
                return str(error)
            except CycleRejectedError:
                return "rejected"
            return "reported"

    async def until(self, stage: str, count: int) -> None:
        """Waits until so many messages of a stage were taken."""
        async with asyncio.timeout(120):
            while self.sent[stage] < count:
                await asyncio.sleep(0.02)

    def average(self, numbers: set[int]) -> list[np.ndarray]:
        """The plain average of what some workers added, without any protocol, in float64."""
        manifest = self.manifest
        assert manifest is not None
        payloads = [self.payloads[number] for number in sorted(numbers)]
        values = sum(payload.values for payload in payloads)
        weight = manifest.figures[1].decoded(sum(payload.figures[1] for payload in payloads))
        parts = np.split(values, np.cumsum(manifest.sizes)[:-1])
        factor = manifest.most_weight / weight
        return [dequantise(p, e) * factor for p, e in zip(parts, manifest.exponents, strict=True)]


def own_masks_off(workers: Workers, sent: Mapping[str, Mapping[str, bytes]]) -> list[tuple[Masked, Masked]]:
    """Each worker's numbers, and what a grid has of them that takes off all the masks that it can.

    Args:
        workers: of a round of at most 100 workers, in which all have reported.
        sent: the messages that the grid has taken, by the workers' ids and by their stages.
    """
    manifest = workers.manifest
    assert manifest is not None
    terms = Terms.of(manifest, Roster.of(RosterMember.parse(of["keys"]) for of in sent.values()))
    by_key = {RosterMember.parse(of["keys"]).mask_key: of for of in sent.values()}
    told = [by_key[member.mask_key] for member in terms.roster]
    everybody = frozenset(range(len(told)))
    held: dict[int, dict[int, int]] = {owner: {} for owner in everybody}
    for holder in everybody:
        answer = check_answer(terms, Lists(everybody, frozenset()), holder, told[holder]["unmasking"])
        for owner, share in answer.items():
            held[owner][holder + 1] = share
    found = []
    for number, of in enumerate(told):
        left = Masked.zeros(manifest.ring, manifest.values, len(manifest.figures))
        left.add(check_report(terms, everybody, None, number, of["reports"]))
        seed = combine(held[number]).to_bytes(SHARE_BYTES, "big")
        MaskStreams(left).subtract(self_key(seed, terms.digest, number))
        found.append(left)
    total = Masked.zeros(manifest.ring, manifest.values, len(manifest.figures))
    for left in found:
        total.add(left)
    assert sum_of(manifest, total, len(found)).figures[0] == len(found)  # the masks that are off are right
    return [(p.masked(manifest), left) for p in workers.payloads.values() for left in found]


async def _nothing(*_arguments: Any) -> None:
    return None


async def _gone(*_arguments: Any) -> None:
    raise GoneError


def is_changed_by(before: Any, after: Any, average: list[np.ndarray]) -> bool:
    """Whether one model is another minus an average, bit for bit."""
    return all(
        np.array_equal(new.numpy(), old.numpy() - change.reshape(old.shape).astype(np.float32))
        for old, new, change in zip(before.params, after.params, average, strict=True)
    )
