"""Runs under atheris: what is read of libFuzzer's words."""

import pytest

from tests.fuzz.guided import outcome, run_guided

DONE = (
    "#2\tINITED cov: 10 ft: 12\n#700\tNEW    cov: 31 ft: 80\n#1000\tDONE   cov: 31 ft: 80\nDone 1000 runs\n"
)
FAULT = (
    "#2\tINITED cov: 10 ft: 12\n#512\tpulse  cov: 12\n === Uncaught Python exception: ===\nValueError: no\n"
)


def test_a_run_that_got_to_its_end_has_no_faults():
    run = outcome(0, DONE)
    assert (run.inputs, run.faults, run.branches) == (1000, 0, (10, 31))


def test_an_exception_is_a_fault():
    run = outcome(77, FAULT)
    assert (run.inputs, run.faults) == (512, 1)
    assert "ValueError: no" in run.said


@pytest.mark.parametrize("said", ["", "#2\tINITED cov: 10\n"])
def test_a_process_that_did_not_get_to_its_end_is_no_success(said):
    assert outcome(0, said).faults == 1


def test_more_code_is_reached_than_by_the_samples(tmp_path):
    pytest.importorskip("atheris", reason="it is in .venv-fuzz alone")
    run = run_guided("zstd", 2000, 5, tmp_path)
    assert (run.inputs, run.faults) == (2000, 0), run.said
    assert run.branches[1] >= run.branches[0] > 0
