"""The neighbour graph."""

import hashlib
import random

import pytest

from fedplan.federation.secure.graph import NeighbourGraph

ROSTER = b"r" * 32


def test_in_the_complete_graph_all_others_are_neighbours():
    graph = NeighbourGraph(5, 4, ROSTER)

    assert graph.neighbours(2) == (0, 1, 3, 4)
    assert graph.holders(2) == (0, 1, 2, 3, 4)


@pytest.mark.parametrize(("workers", "degree"), [(101, 4), (200, 54), (61, 58)])
def test_each_worker_has_as_many_neighbours_and_they_have_it(workers, degree):
    graph = NeighbourGraph(workers, degree, ROSTER)
    neighbours = [graph.neighbours(worker) for worker in range(workers)]

    assert {len(set(found)) for found in neighbours} == {degree}
    assert all(list(found) == sorted(found) and n not in found for n, found in enumerate(neighbours))
    assert all(worker in neighbours[other] for worker in range(workers) for other in neighbours[worker])
    assert graph.holders(3) == tuple(sorted((*neighbours[3], 3)))


def test_the_circle_is_in_the_order_of_digests():
    digests = {
        n: hashlib.sha256(b"fedplan secure 1 neighbours" + ROSTER + bytes([0, 0, 0, n])).digest()
        for n in range(6)
    }
    circle = sorted(digests, key=digests.__getitem__)
    place = circle.index(4)

    assert set(NeighbourGraph(6, 2, ROSTER).neighbours(4)) == {circle[place - 1], circle[(place + 1) % 6]}


def test_another_roster_has_another_graph():
    assert NeighbourGraph(200, 20, ROSTER).neighbours(0) != NeighbourGraph(200, 20, b"s" * 32).neighbours(0)


def pieces(graph: NeighbourGraph, workers: set[int]) -> int:
    """Connected pieces, by walking."""
    left, count = set(workers), 0
    while left:
        count += 1
        open_ = [left.pop()]
        while open_:
            reached = set(graph.neighbours(open_.pop())) & left
            left -= reached
            open_ += reached
    return count


def test_whether_workers_are_one_piece_is_what_walking_finds():
    graph, chance, found = NeighbourGraph(40, 6, ROSTER), random.Random(0), []
    for _ in range(400):
        some = set(chance.sample(range(40), chance.randint(0, 40)))
        found.append(graph.are_connected(some))
        assert found[-1] is (pieces(graph, some) <= 1)
    assert True in found
    assert False in found


def test_the_complete_graph_stays_one_piece():
    assert NeighbourGraph(5, 4, ROSTER).are_connected({0, 3})
