"""The folder of a run: whoever is killed goes on from it, to the same bits."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

import fedplan
from fedplan.errors import CheckpointError
from tests.processes import Process
from tests.simulation.cases import CONFIG, clients, same_bits, simulate
from tests.simulation.killed import CASES, ROUNDS, run


def told(result: fedplan.Simulation) -> list[dict[str, Any]]:
    """The history, without how long it took."""
    return [{**row, "seconds": None} for row in result.history.to_dicts()]


def assert_same(one: fedplan.Simulation, other: fedplan.Simulation) -> None:
    assert same_bits(one.model, other.model)
    assert told(one) == told(other)


class TestARunThatIsKilled:
    @pytest.mark.some(2)
    @pytest.mark.parametrize(
        ("case", "engine"),
        [("scaffold", "batched"), ("scaffold", "sequential"), ("fedbuff", "sequential")],
    )
    def test_goes_on_to_the_same_bits(self, tmp_path: Path, case: str, engine: str) -> None:
        folder = tmp_path / "run"
        for where, count in (("data", 8), ("write", 1), ("row", 0), ("data", 1)):
            with Process("-m", "tests.simulation.killed", folder, case, where, count, engine) as running:
                assert running.communicate(timeout=120)[1] == ""
            assert running.returncode == -9
        result = run(case, checkpoint=folder, engine=engine)
        assert len(result.history) == ROUNDS
        assert_same(result, run(case, engine=engine))

    def test_in_its_first_cycle_does_not_have_it_twice(self, tmp_path: Path) -> None:
        simulate(checkpoint=tmp_path, rounds=1)
        (tmp_path / "checkpoint.zip").unlink()  # killed when the history was written, and nothing else was
        for rounds in (2, 3):
            result = simulate(checkpoint=tmp_path, rounds=rounds)
        lines = (tmp_path / "history.jsonl").read_text().splitlines()
        assert [json.loads(line)["cycle"] for line in lines] == [1, 2, 3]
        assert_same(result, simulate(rounds=3))


class TestARunThatEnded:
    def test_goes_on_whatever_the_order_of_what_was_configured(self, tmp_path: Path) -> None:
        simulate(checkpoint=tmp_path, rounds=1)
        other = dict(reversed(CONFIG.items()))
        assert len(simulate(checkpoint=tmp_path, rounds=2, client_config=other).history) == 2

    @pytest.mark.some(3)
    @pytest.mark.parametrize("case", CASES)
    @pytest.mark.parametrize("memory", [0, 1 << 30])
    def test_goes_on_with_more_rounds_as_if_there_had_been_no_end(
        self, tmp_path: Path, case: str, memory: int
    ) -> None:
        for rounds in (1, 3, ROUNDS):
            result = run(case, checkpoint=tmp_path / "run", rounds=rounds, memory=memory)
            assert len(result.history) == rounds
        assert_same(result, run(case))

    def test_is_there_at_once(self, tmp_path: Path) -> None:
        first = run("scaffold", checkpoint=tmp_path)

        def nobody(client: int) -> Any:
            raise AssertionError(f"client {client} is asked again")

        assert_same(run("scaffold", nobody, checkpoint=tmp_path), first)
        rows: list[Any] = []
        assert len(run("scaffold", checkpoint=tmp_path, rounds=2, progress=rows.append).history) == ROUNDS
        assert rows == []

    def test_that_ctrl_c_interrupted_goes_on(self, tmp_path: Path) -> None:
        def stop(row: Any) -> None:
            if row.cycle == 2:
                raise KeyboardInterrupt

        assert run("topk", checkpoint=tmp_path, progress=stop).interrupted
        result = run("topk", checkpoint=tmp_path)
        assert not result.interrupted
        assert_same(result, run("topk"))

    def test_has_no_more_files_than_clients_that_were_seen(self, tmp_path: Path) -> None:
        result = run("scaffold", checkpoint=tmp_path)
        files = [path.name.partition("-")[0] for path in (tmp_path / "clients").iterdir()]
        assert len(files) == len(set(files)) <= 12
        assert sum(row.reports for row in result.history) > len(files)
        assert len((tmp_path / "history.jsonl").read_text().splitlines()) == ROUNDS


class TestIsRefused:
    @pytest.mark.parametrize(
        ("options", "named"),
        [
            ({"seed": 1}, "seed"),
            ({"cohort": 4}, "cohort"),
            ({"clients": clients(11)}, "population"),
            ({"server": {"weighting": "uniform"}}, "model, Plans or configurations"),
            ({"client_config": {**CONFIG, "lr": 0.3}}, "model, Plans or configurations"),
            ({"kind": "dropout"}, "model, Plans or configurations"),
            ({"availability": fedplan.Availability(dropout=0.1)}, "availability"),
            ({"behaviour": fedplan.SignFlip(share=0.1)}, "behaviour"),
        ],
    )
    def test_the_folder_of_another_simulation(
        self, tmp_path: Path, options: dict[str, Any], named: str
    ) -> None:
        simulate(checkpoint=tmp_path, rounds=1, cohort=5)
        with pytest.raises(CheckpointError, match=f"it differs in its {named}. Name another folder"):
            simulate(**{"checkpoint": tmp_path, "rounds": 2, "cohort": 5, **options})

    def test_the_folder_of_another_pytorch(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        simulate(checkpoint=tmp_path, rounds=1)
        monkeypatch.setattr(torch, "__version__", "2.0.0")
        with pytest.raises(CheckpointError, match=r"it differs in its PyTorch\. Name another folder"):
            simulate(checkpoint=tmp_path, rounds=2)

    @pytest.mark.parametrize("name", ["checkpoint.zip", "history.jsonl"])
    def test_a_damaged_one(self, tmp_path: Path, name: str) -> None:
        simulate(checkpoint=tmp_path, rounds=2)
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 3])
        with pytest.raises(CheckpointError, match="is damaged"):
            simulate(checkpoint=tmp_path, rounds=3)

    @pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
    def test_a_damaged_state_of_a_client(self, tmp_path: Path, damage: str) -> None:
        run("scaffold", checkpoint=tmp_path, rounds=2)
        for path in (tmp_path / "clients").iterdir():
            data = bytearray(path.read_bytes())
            data[-3] ^= 1
            path.write_bytes(data[:-50] if damage == "cut" else data)

        def break_in_between(row: Any) -> None:
            for path in (tmp_path / "clients").iterdir():
                path.unlink()

        if damage == "gone":
            simulated = {"checkpoint": tmp_path / "new", "memory": 0}
            tmp_path = tmp_path / "new"
            with pytest.raises(CheckpointError, match="cannot be read"):
                run("scaffold", progress=break_in_between, **simulated)
        else:
            with pytest.raises(CheckpointError, match="the state of a simulated client is damaged"):
                run("scaffold", checkpoint=tmp_path)

    def test_one_that_is_in_use(self, tmp_path: Path) -> None:
        failed: list[BaseException] = []

        def second(_: object) -> None:
            def start() -> None:
                try:
                    simulate(checkpoint=tmp_path, rounds=1)
                except CheckpointError as error:
                    failed.append(error)

            thread = threading.Thread(target=start)
            thread.start()
            thread.join()

        simulate(checkpoint=tmp_path, rounds=1, progress=second)
        assert "another simulation is using the folder" in str(failed[0])

    def test_one_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(CheckpointError, match="cannot be used"):
            simulate(checkpoint=tmp_path / "file", rounds=1)
