"""The picture of a Plan: everything is in it, and nothing of it comes from elsewhere."""

import dataclasses
import re
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

from fedplan.errors import PlanError
from fedplan.plan import Plan, drawing, trace, training_plan
from fedplan.plan.drawing import draw_plan

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def plan() -> Plan:
    example = (torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64))
    return training_plan(nn.Linear(3, 2), nn.functional.cross_entropy, example=example)


def test_every_input_operation_and_output_has_a_box(plan: Plan) -> None:
    root = ElementTree.fromstring(draw_plan(plan))
    assert len(root.findall(f"{SVG}g")) == len(plan.inputs) + len(plan.graph.nodes) + len(plan.outputs)
    reads = sum(len(set(node.refs())) for node in plan.graph.nodes) + len(plan.outputs)
    assert len(root.findall(f"{SVG}path")) == reads


def test_no_two_boxes_stand_in_one_place_and_all_are_inside(plan: Plan) -> None:
    root = ElementTree.fromstring(draw_plan(plan))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    places = [(float(box.attrib["x"]), float(box.attrib["y"])) for box in root.iterfind(f"{SVG}g/{SVG}rect")]
    assert len(set(places)) == len(places)
    assert all(0 < x < width - 100 and 0 < y < height - 30 for x, y in places)


def test_a_reader_stands_below_what_it_reads(plan: Plan) -> None:
    for path in ElementTree.fromstring(draw_plan(plan)).iterfind(f"{SVG}path"):
        start, end = re.findall(r"[MC ]([\d.]+) ([\d.]+)", path.attrib["d"])[0], path.attrib["d"].split()[-1]
        assert float(start[1]) < float(end)


def test_words_of_others_are_text_and_nothing_else() -> None:
    plan = trace(lambda x: x + 1, torch.zeros(2), name="</title><script>alert(1)</script>\x1b")
    drawn = draw_plan(plan)
    ElementTree.fromstring(drawn)
    assert "<script" not in drawn
    assert "http" not in drawn.replace("http://www.w3.org/2000/svg", "")


def test_a_plan_that_is_too_long_to_look_at_is_refused(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "MOST_DRAWN", 3)
    with pytest.raises(PlanError, match="a picture of more than 3 cannot be read"):
        draw_plan(dataclasses.replace(plan))
