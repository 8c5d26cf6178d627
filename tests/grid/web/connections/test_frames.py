"""Counting a WebSocket's frames: exactly, in whatever pieces they come, and no more than are allowed."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from fedplan.grid.web.connections.frames import Frames
from tests.grid.clock import Clock

SIZES = [0, 1, 125, 126, 127, 1000, 65_535, 65_536, 70_000]


def written(sizes):
    frames = [Frame(Opcode.BINARY, bytes(size)) for size in sizes]
    return b"".join(frame.serialize(mask=True) for frame in frames)


def most_that_pass(data, cuts, clock):
    """The smallest allowance with which all pieces pass."""
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    for burst in range(99):
        frames = Frames(burst, rate=0.0, clock=clock)
        if not any(frames.are_too_many(piece) for piece in pieces):
            return burst
    raise AssertionError


@given(st.lists(st.sampled_from(SIZES[:6]), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_each_frame_is_counted_once_in_whatever_pieces_it_comes(sizes, draw):
    data = written(sizes)
    cuts = sorted(draw.sample(range(1, len(data)), min(len(data) - 1, 12)))
    assert most_that_pass(data, cuts, Clock()) <= len(sizes)
    assert most_that_pass(data, cuts, Clock()) >= len(sizes) - len(data) / 1024  # what bytes may earn


def test_empty_frames_are_counted_exactly():
    data = written([0] * 50)
    for seed in range(20):
        cuts = sorted(random.Random(seed).sample(range(1, len(data)), 25))
        assert most_that_pass(data, cuts, Clock()) == 50


@pytest.mark.parametrize("size", SIZES)
def test_a_frame_of_any_size_is_one(size):
    frames = Frames(1, rate=0.0, clock=Clock())
    assert not frames.are_too_many(written([size]))
    assert frames.are_too_many(written([0, 0]))


def test_time_allows_more():
    clock = Clock()
    frames = Frames(10, rate=5.0, clock=clock)
    assert not frames.are_too_many(written([0] * 10))
    clock.now += 1.0
    assert not frames.are_too_many(written([0] * 5))
    assert frames.are_too_many(written([0]))


def test_time_allows_no_more_than_a_burst():
    clock = Clock()
    frames = Frames(10, rate=5.0, clock=clock)
    clock.now += 1e6
    assert not frames.are_too_many(written([0] * 10))
    assert frames.are_too_many(written([0]))


def test_a_large_message_may_come_in_pieces():
    frames = Frames(10, rate=0.0, clock=Clock())
    assert not any(frames.are_too_many(written([1024])) for _ in range(10_000))
