"""Secure aggregation: a sum of many workers' reports, of which the grid sees none.

The protocol without HTTP, a store or a loop. docs/privacy.md describes it, with every byte.
"""

from fedplan.federation.secure.figures import WEIGHT, WORKERS, Figure, usual_figures
from fedplan.federation.secure.lists import Lists
from fedplan.federation.secure.manifest import Manifest, digest_of_bytes, digest_of_tensors
from fedplan.federation.secure.parameters import Parameters, Trust, parameters_for, ring_bits
from fedplan.federation.secure.payload import Payload, SecureAverage, average_of, payload_of
from fedplan.federation.secure.quantisation import (
    Quantised,
    dequantise,
    draws,
    exponent_for,
    most_of,
    next_exponent,
    quantise,
)
from fedplan.federation.secure.ring import Residues, Ring
from fedplan.federation.secure.roster import Roster, RosterMember
from fedplan.federation.secure.stages import (
    check_agreement,
    check_answer,
    check_keys,
    check_repeated,
    check_report,
    check_shares,
    deliveries,
    lists_of,
    question_of,
)
from fedplan.federation.secure.streams import Masked, MaskStreams, keystream
from fedplan.federation.secure.terms import Expectations, Received, Terms
from fedplan.federation.secure.unmasking import MaskedSum, unmask
from fedplan.federation.secure.worker import SecureWorker

__all__ = [
    "WEIGHT",
    "WORKERS",
    "Expectations",
    "Figure",
    "Lists",
    "Manifest",
    "MaskStreams",
    "Masked",
    "MaskedSum",
    "Parameters",
    "Payload",
    "Quantised",
    "Received",
    "Residues",
    "Ring",
    "Roster",
    "RosterMember",
    "SecureAverage",
    "SecureWorker",
    "Terms",
    "Trust",
    "average_of",
    "check_agreement",
    "check_answer",
    "check_keys",
    "check_repeated",
    "check_report",
    "check_shares",
    "deliveries",
    "dequantise",
    "digest_of_bytes",
    "digest_of_tensors",
    "draws",
    "exponent_for",
    "keystream",
    "lists_of",
    "most_of",
    "next_exponent",
    "parameters_for",
    "payload_of",
    "quantise",
    "question_of",
    "ring_bits",
    "unmask",
    "usual_figures",
]
