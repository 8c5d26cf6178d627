"""The tfjs variant of Plans: what browsers run."""

from fedplan.plan.tfjs.interpreter import execute, run
from fedplan.plan.tfjs.translate import translate

__all__ = ["execute", "run", "translate"]
