"""Reports that were checked when they came, read again from where they are kept."""

from fedplan.federation.tensors import Layout
from fedplan.federation.update import Update
from fedplan.wire import read_report
from fedplan.wire.compression import FORMATS, decompress


def read_stored(report: bytes, layout: Layout, staleness: int = 0) -> Update:
    """An update; the smaller forms of its diff as float32.

    Args:
        report: its bytes.
        layout: of its tensors.
        staleness: see `Update`.
    """
    state, summary = read_report(report)
    return Update(decompress(state, [shape for shape, _ in layout], FORMATS), summary, staleness)
