"""A whole model, put together while it is sent, has the very bytes of a State that is made at once."""

import numpy as np
import pytest

from fedplan.errors import WireError
from fedplan.grid.blobs import whole
from fedplan.wire import State, WireTensor, schema


def stream(data, size):
    async def pieces():
        for at in range(0, len(data), size):
            yield data[at : at + size]

    return len(data), pieces()


async def read(stream):
    size, pieces = stream
    data = b"".join([piece async for piece in pieces])
    assert len(data) == size
    return data


def random_model(seed, count):
    random = np.random.default_rng(seed)
    shapes = [tuple(random.integers(0, 12, size=random.integers(0, 4))) for _ in range(count)]
    return State.of(WireTensor(random.normal(size=shape).astype("f4"), "float32") for shape in shapes)


def split(model, places):
    rest = tuple(place for place in range(len(model)) if place not in places)
    return model.part(rest).serialize(), model.part(places).serialize()


@pytest.mark.parametrize("size", [1, 7, 100, 10**6])
@pytest.mark.parametrize("places", [(0,), (29,), (0, 1, 2), (3, 4, 5, 28, 29), tuple(range(0, 30, 2))])
async def test_it_does_not_matter_what_is_frozen_and_in_what_pieces_it_comes(places, size):
    model = random_model(len(places), 30)
    frozen, changing = (stream(part, size) for part in split(model, places))
    order = [place in places for place in range(30)]
    assert await read(await whole.joined(frozen, changing, order)) == model.serialize()


async def test_small_tensors_are_sent_together_and_large_ones_in_pieces(monkeypatch):
    monkeypatch.setattr(whole, "_PIECE_BYTES", 1000)
    model = random_model(0, 30)
    large = WireTensor(np.ones((50, 50), "f4"), "float32")
    model = State.of([*model.tensors, large])
    frozen, changing = split(model, (0, 30))
    order = [place in (0, 30) for place in range(31)]
    _, pieces = await whole.joined(stream(frozen, 500), stream(changing, 500), order)
    sizes = [len(piece) async for piece in pieces]
    assert all(1000 <= size <= 2000 for size in sizes[:-1])


async def test_tags_of_another_version_do_not_matter():
    model = random_model(1, 4)
    frozen, changing = split(model, (1, 2))
    older = schema.State.decode(frozen)
    older.placeholders = [schema.Placeholder(tags=["#something else"])] * 9
    joined = await whole.joined(stream(older.encode(), 9), stream(changing, 9), [False, True, True, False])
    assert await read(joined) == model.serialize()


@pytest.mark.parametrize("left", [0, 1, 60, 200])
async def test_a_state_that_is_cut_short_is_an_error(left):
    frozen, changing = split(random_model(2, 6), (5,))
    _, pieces = stream(frozen[:left], 10)
    with pytest.raises(WireError, match="cut short"):
        await read(await whole.joined((len(frozen), pieces), stream(changing, 10), [False] * 5 + [True]))
