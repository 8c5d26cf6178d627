"""A Plan's graph as a picture: an SVG that needs no library and no other file.

Operations stand in rows, each below all that it reads; inputs stand just above their first reader. Within a
row, values are ordered by where those stand that they are joined with (Sugiyama's barycentre heuristic), so
that few lines cross.
"""

import dataclasses
import html
import itertools
from collections.abc import Iterable, Mapping, Sequence

from fedplan.errors import PlanError
from fedplan.plan.ir.graph import Ref
from fedplan.plan.listing import operation_text, short_name
from fedplan.plan.plan import Plan

MOST_DRAWN = 3_000
"""Operations of a Plan up to which a picture of it can be looked at."""

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 128, 36, 18, 44, 24
_LETTERS = 19
_SWEEPS = 6

_STYLE = """
.b { stroke: #5b6577; stroke-width: 1; fill: #ffffff; }
.input { fill: #dbeafe; } .model { fill: #dcfce7; } .constant { fill: #ede9fe; } .output { fill: #fef3c7; }
text { font: 11px ui-monospace, Menlo, Consolas, monospace; text-anchor: middle; fill: #111827; }
.s { font-size: 9px; fill: #4b5563; }
path { fill: none; stroke: #94a3b8; stroke-width: 1; } path.far { stroke: #cbd5e1; }
"""


@dataclasses.dataclass(slots=True)
class _Box:
    """One thing in the picture, with what stands in it, and which boxes it reads."""

    title: str
    small: str
    kind: str
    told: str
    reads: tuple[int, ...] = ()
    row: int = 0
    column: float = 0.0


def draw_plan(plan: Plan, shapes: Mapping[int, str] | None = None) -> str:
    """Draws a Plan's graph.

    Args:
        plan: the Plan.
        shapes: what is written small below a value, by its number, such as its shape.

    Returns:
        The text of an SVG file. Its boxes are inputs (blue), tensors of the model (green), constants
        (violet), operations (white) and outputs (yellow); a browser shows a box's whole operation where the
        pointer rests on it.

    Raises:
        PlanError: the Plan has too many operations for a picture.
    """
    if len(plan.graph.nodes) > MOST_DRAWN:
        raise PlanError(
            f"the Plan '{plan.name}' has {len(plan.graph.nodes)} operations, and a picture of more than "
            f"{MOST_DRAWN} cannot be read: `fedplan plan show` lists them"
        )
    boxes = _boxes(plan, shapes or {})
    rows = _rows(boxes)
    _order(boxes, rows)
    return _svg(plan.name, boxes, rows)


def _boxes(plan: Plan, shapes: Mapping[int, str]) -> list[_Box]:
    """Everything that is drawn, in an order in which readers come after what they read."""
    boxes: list[_Box] = []
    made_by: dict[int, int] = {}

    def add(box: _Box, numbers: Iterable[int] = ()) -> None:
        made_by.update(dict.fromkeys(numbers, len(boxes)))
        boxes.append(box)

    for item, number in zip(plan.inputs, plan.graph.inputs, strict=True):
        kind = "model" if item.role is not None else "input"
        add(_Box(item.name, shapes.get(number, item.kind or ""), kind, f"{Ref(number)} = {item}"), [number])
    for number, tensor in plan.graph.constants:
        add(_Box("constant", "×".join(map(str, tensor.shape)), "constant", f"{Ref(number)}"), [number])
    for node in plan.graph.nodes:
        told = operation_text(node) + (f"  # {node.source}" if node.source else "")
        reads = tuple(dict.fromkeys(made_by[number] for number in node.refs()))
        small = next((shapes[number] for number in node.results if number in shapes), "")
        add(_Box(short_name(node.op), small, "", told, reads), node.results)
    for output, number in zip(plan.outputs, plan.graph.outputs, strict=True):
        reads = (made_by[number],)
        add(_Box(output.name, "output", "output", f"{Ref(number)} is {output.name}", reads))
    return boxes


def _rows(boxes: Sequence[_Box]) -> list[list[int]]:
    """Gives each box its row, and returns the boxes of each."""
    for box in boxes:
        box.row = max((boxes[place].row + 1 for place in box.reads), default=0)
    readers = _readers(boxes)
    for place, box in enumerate(boxes):
        if not box.reads and readers[place]:  # what is only read stands where it is needed first
            box.row = max(min(boxes[reader].row for reader in readers[place]) - 1, 0)
    rows: list[list[int]] = [[] for _ in range(1 + max((box.row for box in boxes), default=0))]
    for place, box in enumerate(boxes):
        rows[box.row].append(place)
    return rows


def _readers(boxes: Sequence[_Box]) -> list[list[int]]:
    readers: list[list[int]] = [[] for _ in boxes]
    for place, box in enumerate(boxes):
        for read in box.reads:
            readers[read].append(place)
    return readers


def _order(boxes: Sequence[_Box], rows: Sequence[list[int]]) -> None:
    """Gives each box its column."""
    readers = _readers(boxes)
    for row in rows:
        _place(boxes, row)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            middles = {
                place: _middle(boxes, boxes[place].reads if down else readers[place], place) for place in row
            }
            row.sort(key=middles.__getitem__)
            _place(boxes, row)


def _place(boxes: Sequence[_Box], row: Sequence[int]) -> None:
    """Puts a row's boxes side by side, around the middle of the picture."""
    for column, place in enumerate(row):
        boxes[place].column = column - (len(row) - 1) / 2


def _middle(boxes: Sequence[_Box], joined: Sequence[int], place: int) -> float:
    """Where the boxes stand that one is joined with; where it stands itself if there are none."""
    if not joined:
        return boxes[place].column
    return sum(boxes[other].column for other in joined) / len(joined)


def _svg(name: str, boxes: Sequence[_Box], rows: Sequence[Sequence[int]]) -> str:
    widest = max(map(len, rows), default=1)
    width = widest * (_WIDTH + _GAP_X) - _GAP_X + 2 * _MARGIN
    height = len(rows) * (_HEIGHT + _GAP_Y) - _GAP_Y + 2 * _MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img">',
        f"<title>{_said(name)}</title><style>{_STYLE}</style>",
        f'<rect width="{width}" height="{height}" fill="#f8fafc"/>',
        *itertools.chain.from_iterable(_edges(boxes, box, width) for box in boxes),
        *(_drawn(box, width) for box in boxes),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _corner(box: _Box, width: int) -> tuple[float, float]:
    """Where a box's upper left corner is."""
    x = width / 2 + box.column * (_WIDTH + _GAP_X) - _WIDTH / 2
    return round(x, 1), _MARGIN + box.row * (_HEIGHT + _GAP_Y)


def _edges(boxes: Sequence[_Box], box: _Box, width: int) -> Iterable[str]:
    x, y = _corner(box, width)
    for place in box.reads:
        other = boxes[place]
        from_x, from_y = _corner(other, width)
        start, end = (from_x + _WIDTH / 2, from_y + _HEIGHT), (x + _WIDTH / 2, y)
        half = (start[1] + end[1]) / 2
        far = ' class="far"' if box.row - other.row > 1 else ""
        yield f'<path{far} d="M{start[0]} {start[1]}C{start[0]} {half} {end[0]} {half} {end[0]} {end[1]}"/>'


def _drawn(box: _Box, width: int) -> str:
    x, y = _corner(box, width)
    middle = x + _WIDTH / 2
    title = box.title if len(box.title) <= _LETTERS else box.title[: _LETTERS - 1] + "…"
    small = f'<text class="s" x="{middle}" y="{y + 29}">{_said(box.small)}</text>' if box.small else ""
    return (
        f'<g><title>{_said(box.told)}</title><rect class="b {box.kind}" x="{x}" y="{y}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" rx="6"/><text x="{middle}" y="{y + (16 if small else 22)}">{_said(title)}</text>'
        f"{small}</g>"
    )


def _said(text: str) -> str:
    """A text of a Plan as it may stand in the picture: names come from others."""
    return html.escape("".join(c if c.isprintable() else "�" for c in text), quote=False)
