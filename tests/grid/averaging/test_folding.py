"""The program that runs averaging Plans answers whatever happens."""

import io

from fedplan.grid.averaging import folding
from fedplan.wire import State
from tests.federation.made import random_diffs


def conversation(*pieces):
    stream = io.BytesIO()
    for kind, content in pieces:
        folding.send(stream, kind, content)
    stream.seek(0)
    return stream


def test_an_error_that_nobody_foresaw_is_answered_by_its_type_and_first_line_and_logged(capsys):
    diff = State.of(random_diffs(1, (((3,), "float32"),))[0]).serialize()
    asked = conversation(
        (folding.PLAN, b""), (folding.DIFF, diff), (folding.DIFF, diff), (folding.END, b""), (b"?", b"next")
    )
    kind, why = folding._answer({}, asked)
    assert (kind, why) == (folding.FAILED, b"the averaging Plan failed: KeyError: 'limits'")
    assert "Traceback" in capsys.readouterr().err
    assert folding.receive(asked) == (b"?", b"next")


def test_a_diff_that_cannot_be_read_does_not_leave_the_others_unread():
    limits = {"limits": {}, "layout": [], "changing": None, "iterative": False}
    asked = conversation((folding.PLAN, b"no Plan"), (folding.DIFF, b"no State"), (folding.END, b""))
    kind, _ = folding._answer(limits, asked)
    assert kind == folding.FAILED
    assert asked.read() == b""
