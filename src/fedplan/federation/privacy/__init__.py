"""Differential privacy: clipping, integer noise, and what of the privacy budget was spent."""

from fedplan.federation.privacy.accounting import (
    epsilon_after,
    epsilon_of,
    is_within_budget,
    most_cycles,
    multiplier_for,
)
from fedplan.federation.privacy.clipping import Clip, clipped_values
from fedplan.federation.privacy.examples import DpSgdSteps, ExamplePrivacy
from fedplan.federation.privacy.mechanism import CentralGaussian
from fedplan.federation.privacy.noise import NoiseStream, discrete_gaussian
from fedplan.federation.privacy.spending import Spending, spending_of, told_privacy, why_budget_is_spent

__all__ = [
    "CentralGaussian",
    "Clip",
    "DpSgdSteps",
    "ExamplePrivacy",
    "NoiseStream",
    "Spending",
    "clipped_values",
    "discrete_gaussian",
    "epsilon_after",
    "epsilon_of",
    "is_within_budget",
    "most_cycles",
    "multiplier_for",
    "spending_of",
    "told_privacy",
    "why_budget_is_spent",
]
