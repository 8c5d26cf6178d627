from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedplan.errors import WireError
from fedplan.wire.encoding import PIECE_BYTES, ZstdReader, takes_zstd, to_zstd, zstd


@pytest.mark.parametrize(
    "header",
    [
        "zstd",
        "gzip, deflate, br, zstd",  # Chromium
        "gzip,deflate , zstd;q=0.001",
        "ZSTD ; Q=1.000",
        "\tzstd\t",
        "identity;q=0.5, zstd;q=0.5",
        "identity;q=0, zstd",
        "*;q=0, zstd;q=1.",
        ", zstd,,",
    ],
)
def test_who_takes_zstd(header: str) -> None:
    assert takes_zstd(header)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "gzip, deflate, br",
        "*",
        "identity",
        "zstd;q=0",
        "zstd; q=0.000",
        "gzip, zstd;q=0, *",
        "zstd;q=0.5, identity",
        "xzstd, zstd-2",
        "gzip;zstd",
        "zstd;q=",
        "zstd;q=high",
        "zstd;q=2",
        "zstd;q=-1",
        "zstd;level=3",
        "zstd;",
    ],
)
def test_who_does_not(header: str) -> None:
    assert not takes_zstd(header)


SPACE = st.text(" \t", max_size=2)
THOUSANDTHS = st.none() | st.integers(0, 1000)


@st.composite
def headers(draw: st.DrawFn) -> tuple[str, dict[str, int]]:
    """An Accept-Encoding, and the weights in it as thousandths."""
    codings = draw(st.lists(st.sampled_from(["zstd", "identity", "gzip", "br", "*"]), unique=True))
    weights, elements = {}, []
    for coding in codings:
        weight = draw(THOUSANDTHS)
        weights[coding] = 1000 if weight is None else weight
        text = "".join(draw(st.sampled_from([letter, letter.upper()])) for letter in coding)
        if weight is not None:
            number = f"{weight / 1000:.3f}"
            short = number.rstrip("0") if draw(st.booleans()) else number
            text += f"{draw(SPACE)};{draw(SPACE)}{draw(st.sampled_from('qQ'))}={short}"
        elements.append(draw(SPACE) + text + draw(SPACE))
    return ",".join(elements), weights


@given(headers())
def test_weights_decide(case: tuple[str, dict[str, int]]) -> None:
    header, weights = case
    zstd = weights.get("zstd", 0)
    assert takes_zstd(header) == (zstd > 0 and zstd >= weights.get("identity", 0))


@given(st.text())
def test_no_header_is_an_error(header: str) -> None:
    takes_zstd(header)
    takes_zstd(f"zstd;q={header}")


def read(chunks: Iterable[bytes]) -> bytes:
    reader = ZstdReader()
    content = b"".join(piece for chunk in chunks for piece in reader.pieces(chunk))
    reader.end()
    return content


@given(st.lists(st.binary(max_size=3000) | st.integers(0, 5000).map(bytes)), st.integers(1, 2000))
def test_what_was_written_is_read_in_whatever_chunks_it_comes(parts: list[bytes], length: int) -> None:
    data = b"".join(map(to_zstd, parts))  # one frame after another is zstd too
    chunks = [data[at : at + length] for at in range(0, len(data), length)]
    assert read(chunks) == b"".join(parts)


def test_what_is_far_larger_comes_in_bounded_pieces() -> None:
    bomb = to_zstd(bytes(64 * PIECE_BYTES))
    assert len(bomb) < 10_000
    sizes = [len(piece) for piece in ZstdReader().pieces(bomb)]
    assert max(sizes) <= PIECE_BYTES
    assert sum(sizes) == 64 * PIECE_BYTES


def test_a_window_that_http_does_not_allow_is_refused() -> None:
    def frame(log: int) -> bytes:
        writer = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: log})
        return writer.compress(bytes(1000)) + writer.flush()

    assert read([frame(23)]) == bytes(1000)
    with pytest.raises(WireError, match="not zstd as it is sent over HTTP"):
        read([frame(24)])


def test_what_is_written_needs_no_larger_window() -> None:
    data = bytes(range(256)) * (64 * 1024 * 1024 // 256)
    assert read([to_zstd(data)]) == data


def test_what_is_no_zstd_is_refused() -> None:
    with pytest.raises(WireError, match="not zstd"):
        read([b"PK\3\4 and so on"])
    with pytest.raises(WireError, match="not zstd"):
        read([to_zstd(b"x" * 100), b"and more"])


def test_what_ends_too_early_is_refused() -> None:
    data = to_zstd(bytes(range(256)))
    for end in (1, 5, len(data) - 1):
        with pytest.raises(WireError, match="ends too early"):
            read([data[:end]])
