"""Secure aggregation: a sum of many workers' reports, of which the grid sees none.

The protocol without HTTP, a store or a loop. docs/privacy.md describes it, with every byte.
"""

from fedplan.federation.secure.parameters import Parameters, Trust, parameters_for, ring_bits
from fedplan.federation.secure.quantisation import (
    Quantised,
    dequantise,
    exponent_for,
    most_of,
    next_exponent,
    quantise,
)
from fedplan.federation.secure.ring import Residues, Ring
from fedplan.federation.secure.streams import Masked, MaskStreams, keystream

__all__ = [
    "MaskStreams",
    "Masked",
    "Parameters",
    "Quantised",
    "Residues",
    "Ring",
    "Trust",
    "dequantise",
    "exponent_for",
    "keystream",
    "most_of",
    "next_exponent",
    "parameters_for",
    "quantise",
    "ring_bits",
]
