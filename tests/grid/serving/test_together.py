"""What the processes of a grid hold together: here two of them in one process, on one board."""

import multiprocessing
from pathlib import Path

import pytest

from fedplan.errors import OverloadedError
from fedplan.grid.serving.together import Board
from fedplan.grid.web.connections.bounds import Peers
from fedplan.grid.web.intake import Intake


@pytest.fixture
def board(tmp_path):
    return Board(2, multiprocessing.get_context("spawn"), tmp_path)


def test_what_peers_send_is_bounded_over_all_processes(board):
    one, other = (Intake(1000, board.of(number).pending) for number in range(2))
    one.claim(600)
    with pytest.raises(OverloadedError):
        other.claim(401)
    other.claim(400)
    one.release(600)
    other.claim(600)
    with pytest.raises(OverloadedError):
        one.claim(1)
    one.claim(0)  # a message that needs no more room is taken at any time


def test_connections_are_bounded_over_all_processes(board):
    one, other = (Peers(3, 3, together=board.of(number)) for number in range(2))
    assert one.enter("a", "127.0.0.1")
    assert one.enter("b", "127.0.0.2")
    assert other.enter("c", "127.0.0.3")
    assert not other.enter("d", "127.0.0.4")
    one.leave("a")
    assert other.enter("d", "127.0.0.4")
    assert not one.enter("e", "127.0.0.5")


def test_connections_of_an_address_are_bounded_over_all_processes(board):
    one, other = (Peers(100, 2, together=board.of(number)) for number in range(2))
    assert one.enter("a", "127.0.0.1")
    assert other.enter("b", "127.0.0.1")
    assert not one.enter("c", "127.0.0.1")
    assert not other.enter("c", "127.0.0.1")
    assert other.enter("d", "127.0.0.2")
    one.leave("a")
    assert other.enter("c", "127.0.0.1")


def test_a_process_has_no_more_connections_than_files(board):
    few = Peers(100, 100, most_here=1, together=board.of(0))
    assert few.enter("a", "127.0.0.1")
    assert not few.enter("b", "127.0.0.2")
    assert Peers(100, 100, together=board.of(1)).enter("b", "127.0.0.2")


def test_what_a_killed_process_held_is_given_back(board):
    killed, other = board.of(0), board.of(1)
    Intake(1000, killed.pending).claim(1000)
    assert Peers(1, 1, together=killed).enter("a", "127.0.0.1")
    assert not Peers(1, 1, together=other).enter("b", "127.0.0.1")
    board.clear(0)
    Intake(1000, other.pending).claim(1000)
    assert Peers(1, 1, together=other).enter("b", "127.0.0.1")


def test_which_addresses_share_a_number_is_unknown_to_others(tmp_path):
    """Else a client could use up the connections of another's address."""
    places = set()
    for _ in range(20):
        board = Board(1, multiprocessing.get_context("spawn"), Path(tmp_path))
        board.of(0).by_address.add("127.0.0.1", 1)
        places.add(list(board._by_address).index(1))
    assert len(places) > 10
