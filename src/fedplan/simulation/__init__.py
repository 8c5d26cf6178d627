"""Simulation: federated training with many clients on one machine, by the code of grids and workers."""

from fedplan.simulation.availability import Availability
from fedplan.simulation.behaviour import Behaviour, FreeRider, GaussianNoise, LabelFlip, Noise, SignFlip
from fedplan.simulation.chance import client_seed
from fedplan.simulation.history import SimulatedHistory, SimulatedRow
from fedplan.simulation.result import Simulation
from fedplan.simulation.run import simulate
from fedplan.simulation.sweeping import Sweep, SweepRun, sweep

__all__ = [
    "Availability",
    "Behaviour",
    "FreeRider",
    "GaussianNoise",
    "LabelFlip",
    "Noise",
    "SignFlip",
    "SimulatedHistory",
    "SimulatedRow",
    "Simulation",
    "Sweep",
    "SweepRun",
    "client_seed",
    "simulate",
    "sweep",
]
