"""Any strategy that needs only the average, under differential privacy: it gets a noisy one."""

import dataclasses
import math
from collections.abc import Mapping

from fedplan.errors import ConfigError
from fedplan.federation.privacy import CentralGaussian, Clip, epsilon_after, is_within_budget
from fedplan.federation.strategies.setting import Setting
from fedplan.federation.strategies.strategy import Strategy, as_it_is
from fedplan.federation.sums import Average
from fedplan.federation.tensors import to_float64
from fedplan.federation.update import Update
from fedplan.plan.signature import Role
from fedplan.wire import WireTensor
from fedplan.wire.config import PRIVACY_KEY, PrivacyConfig, ServerConfig

_UNANALYSED: Mapping[str, str] = {
    "scaffold": "workers report control variates too, which would need noise of their own",
    "feddyn": "what workers remember from cycle to cycle has not been analysed together with the noise",
    "fedbuff": "a worker may report several times into the cycles of one checkpoint",
    "fednova": "it divides reports by numbers of steps that workers tell, which nothing bounds",
    "qfedavg": "it weighs reports by losses that workers tell, which nothing bounds",
}
"""Strategies that differential privacy is not given to, and why."""


def private_strategy(inner: Strategy, config: PrivacyConfig) -> Strategy:
    """A strategy that steps along the noisy sum of clipped reports over the cohort's size.

    Of a report nothing else is used: no samples, no metrics.

    Args:
        inner: what is done with the average.
        config: the mechanism.

    Raises:
        ConfigError: the strategy needs more than the average, or the model or the server_config asks for
            numbers that have no noise.
    """
    setting = inner.setting
    _check_config(setting.server)  # first: what the grid measures changes the strategy too
    _check_strategy(inner)
    if PRIVACY_KEY in setting.client:
        raise ConfigError(
            f"client_config: workers are told of the privacy under '{PRIVACY_KEY}': give your key another "
            "name"
        )
    _check_model(setting)
    _check_budget(config)
    elements = sum(math.prod(shape) for shape, _ in setting.changing_layout)
    per_layer = config.clipping == "per_layer"
    mechanism = CentralGaussian(
        Clip(config.clip, per_layer), config.noise_multiplier, config.cohort, elements
    )
    mechanism.check()

    def bound(update: Update) -> Update:
        values = mechanism.bounded([to_float64(tensor) for tensor in update.tensors])
        return Update(tuple(WireTensor(array, "float64") for array in values))

    def release(average: Average, key: bytes) -> Average:
        noisy = mechanism.released(average.tensors, average.reports, key)
        return dataclasses.replace(average, tensors=tuple(noisy))

    return dataclasses.replace(inner, uniform=True, bound=bound, release=release)


def _check_strategy(inner: Strategy) -> None:
    """Raises a ConfigError for one that needs more of the reports than their sum."""
    why = _UNANALYSED.get(inner.name)
    if inner.combine is not None:
        why = "it combines the reports one by one, so the noise would have to be as large as for each of them"
    elif inner.fold is not None:
        why = "an averaging Plan may do anything with each report, so nothing bounds what one changes"
    elif why is None and inner.prepare is not as_it_is:
        why = (
            "it changes reports after they were clipped: leave out its 'clip_norm', which 'privacy' replaces"
        )
    elif why is None and (inner.needs or inner.staleness is not None or inner.closes_at is not None):
        why = "it needs more of the workers than their reports' sum"
    if why is not None:
        raise ConfigError(
            f"server_config: 'privacy' cannot be given to the strategy {inner.name}: {why}. Use fedavg, "
            "fedavgm, fedadagrad, fedadam or fedyogi"
        )


def _check_config(server: ServerConfig) -> None:
    """Raises a ConfigError for keys that release numbers without noise, or weigh reports."""
    if server.weighting == "samples" and "weighting" in server.model_fields_set:
        raise ConfigError(
            "server_config: with 'privacy' all reports count the same, for nothing bounds the samples that a "
            "worker tells: leave 'weighting' out, or set it to 'uniform'"
        )
    if server.report_formats:
        raise ConfigError(
            "server_config: with 'privacy' reports are float32, for smaller forms keep what was not sent for "
            "a later cycle, where it would come beside that cycle's clip: leave 'report_formats' out"
        )
    weights = [key for key in ("untold_weight", "max_weight") if getattr(server, key) is not None]
    released = [key for key in ("metrics", "best", "stop", "evaluation") if getattr(server, key)]
    if weights:
        raise ConfigError(
            f"server_config: with 'privacy' all reports count the same: leave out {weights[0]!r}"
        )
    if released:
        raise ConfigError(
            f"server_config: {released[0]!r} reads or shows what workers measured, without noise: leave it "
            "out beside 'privacy', and measure checkpoints on data of your own"
        )


def _check_model(setting: Setting) -> None:
    """Raises a ConfigError for a model of which more is reported than what is trained."""
    if setting.evaluates:
        raise ConfigError(
            "server_config: with 'privacy' there can be no evaluation Plan, for what workers measure with it "
            "would be shown without noise: leave it out, and measure checkpoints on data of your own"
        )
    other = next((role for role in setting.roles if role is not Role.TRAINED), None)
    if other is not None:
        raise ConfigError(
            "server_config: with 'privacy' workers report only what is trained, and this model has tensors "
            f"that are '{other.value}', such as the running statistics of a batch norm: use a group norm or "
            "a layer norm"
        )


def _check_budget(config: PrivacyConfig) -> None:
    """Raises a ConfigError for a budget that is too small for one cycle."""
    first = epsilon_after(1, config.noise_multiplier, config.delta)
    if not is_within_budget(first, config.max_epsilon):
        raise ConfigError(
            f"server_config: privacy: one cycle alone has an ε of {first:.4g} at a δ of {config.delta:g}, "
            f"and max_epsilon is {config.max_epsilon:g}: set a larger noise_multiplier; `fedplan privacy "
            "plan` says which"
        )
