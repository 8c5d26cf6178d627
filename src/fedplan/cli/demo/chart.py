"""The demo's picture: accuracy per cycle, and which worker holds which digits."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fedplan.cli.demo.digits import Samples


def draw(federated: Sequence[float], central: Sequence[float], parts: Sequence[Samples]) -> bytes:
    """The picture as a PNG.

    Args:
        federated: accuracy before the training, and after each cycle.
        central: the same of the model that was trained in one place.
        parts: the workers' samples.
    """
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display
    curves, map_of_parts = figure.subplots(1, 2, width_ratios=(3, 2))

    cycles = range(len(federated))
    curves.plot(
        cycles, federated, marker="o", markersize=4, label=f"{len(parts)} workers, data stays with them"
    )
    curves.plot(cycles, central, linestyle="--", label="all data in one place")
    curves.set(xlabel="cycle", ylabel="accuracy", title="Handwritten digits", ylim=(None, 1.0))
    curves.yaxis.set_major_formatter("{x:.0%}")
    curves.xaxis.get_major_locator().set_params(integer=True)
    curves.grid(alpha=0.3)
    curves.legend(loc="lower right")

    counts = np.stack([np.bincount(part.digits, minlength=10) for part in parts])
    image = map_of_parts.imshow(counts, cmap="Blues", aspect="auto", vmin=0)
    map_of_parts.set(xlabel="digit", ylabel="worker", title="Samples that each worker holds")
    map_of_parts.set_xticks(range(10))
    map_of_parts.set_yticks(range(len(parts)), [str(number) for number in range(1, len(parts) + 1)])
    figure.colorbar(image, ax=map_of_parts)

    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=140)
    return png.getvalue()
