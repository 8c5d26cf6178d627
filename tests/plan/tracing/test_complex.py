"""Complex numbers and Fourier transforms become real arithmetic."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedplan.errors import TraceError, UnsupportedOpError
from fedplan.plan import Plan, trace
from tests.plan.tracing.agreement import check_function, check_training, gradient_of

Function = Callable[[torch.Tensor, torch.Tensor], Any]


def real(value: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(value.resolve_conj())


def pairs(x: torch.Tensor) -> torch.Tensor:
    return torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())


ARITHMETIC: dict[str, Function] = {
    "product": lambda x, w: real(pairs(x) * pairs(w)),
    "quotient": lambda x, w: real(pairs(x) / (pairs(w) + 3)),
    "sum and difference": lambda x, w: real(pairs(x) + 2 * pairs(w) - x[..., :4]),
    "with real numbers": lambda x, w: real(1j * pairs(x) - pairs(w) / 2j + (0.5 - 1j)),
    "conjugate": lambda x, w: real(pairs(x).conj() * pairs(w).conj()),
    "size and angle": lambda x, w: (pairs(x * w).abs(), pairs(x * w).angle()),
    "direction": lambda x, w: real(torch.sgn(pairs(x * w))),
    "exponential": lambda x, w: real(torch.exp(pairs(x * w))),
    "logarithm": lambda x, w: real(torch.log(pairs(x * w) + 3)),
    "root": lambda x, w: real(torch.sqrt(pairs(x * w) + 3)),
    "powers": lambda x, w: real(pairs(x * w) ** 3 + (pairs(x * w) + 3) ** 0.5),
    "sine and cosine": lambda x, w: real(torch.sin(pairs(x * w)) * torch.cos(pairs(w))),
    "reciprocal": lambda x, w: real((pairs(x * w) + 3).reciprocal()),
    "polar": lambda x, w: real(torch.polar(x.abs() + 1, x * w)),
    "from parts": lambda x, w: real(torch.complex(x, x * w)),
    "parts": lambda x, w: pairs(x * w).real * pairs(x).imag,
    "matrix product": lambda x, w: real(pairs(x) @ pairs(w.expand(4, 8)).mT),
    "products of a batch": lambda x, w: real(torch.einsum("bi,ij->bj", pairs(x), pairs(w.expand(4, 8)))),
    "norm": lambda x, w: torch.linalg.vector_norm(pairs(x * w), dim=-1),
    "mean": lambda x, w: real(pairs(x * w).mean(0)),
    "cast": lambda x, w: real(((x * w).to(torch.complex64) * 1j).to(torch.complex128)),
    "choice": lambda x, w: real(torch.where(x[..., :4] > 0, pairs(x * w), pairs(w))),
    "mask": lambda x, w: real(pairs(x * w).masked_fill(x[..., :4] > 0, 2 - 1j)),
}

SHAPES: dict[str, Function] = {
    "turned": lambda x, w: real((pairs(x) * pairs(w)).reshape(-1, 2, 2).permute(2, 0, 1).transpose(0, -1)),
    "joined and cut": lambda x, w: real(torch.cat([pairs(x), pairs(x * w)], -1).chunk(4, -1)[1]),
    "stacked": lambda x, w: real(torch.stack([pairs(x), pairs(x * w)], 1).sum(1)),
    "chosen": lambda x, w: real(pairs(x * w)[:, [2, 0]] + pairs(x * w)[:, 1:3]),
    "gathered": lambda x, w: real(pairs(x * w).gather(1, (x[..., :2] > 0).long())),
    "turned around": lambda x, w: real(pairs(x * w).flip(1).roll(1, 1)),
    "padded": lambda x, w: real(F.pad(pairs(x * w), (1, 2))),
    "spread": lambda x, w: real(pairs(w).expand(x.shape[0], -1) * pairs(x).sum(-1, keepdim=True)),
    "squeezed": lambda x, w: real(pairs(x * w).unsqueeze(1).squeeze(1).unbind(-1)[2]),
    "triangular": lambda x, w: real(torch.tril(pairs(x * w).unsqueeze(1) * pairs(w).unsqueeze(-1))),
    "added up on the way": lambda x, w: real(pairs(x * w).cumsum(-1)),
    "windows": lambda x, w: real(pairs(x * w).unfold(1, 2, 1)),
}


def written(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """One memory under two names, of which both are written to."""
    value = pairs(x * w).clone()
    torch.view_as_real(value).mul_(2)
    value *= 1j
    value[:, 0] = pairs(w)[1]
    value[:, 1:3] += value[:, :2].conj()
    return real(value)


@pytest.mark.some(12)
@pytest.mark.parametrize("name", [*ARITHMETIC, *SHAPES, "written"])
def test_a_computation_with_complex_numbers(name: str) -> None:
    torch.manual_seed(0)
    weight = torch.randn(8)
    function = {**ARITHMETIC, **SHAPES, "written": written}[name]
    plan = check_function(gradient_of(function), lambda rows: [torch.randn(rows, 8), weight.requires_grad_()])
    assert not any("complex" in node.op or "fft" in node.op for node in plan.graph.nodes)


LENGTHS = (1, 2, 7, 60, 128, 129, 200, 257, 1000)

TRANSFORMS: dict[str, Callable[[torch.Tensor, int], torch.Tensor]] = {
    "fft": lambda x, n: real(torch.fft.fft(x)),
    "ifft": lambda x, n: real(torch.fft.ifft(torch.complex(x, x.flip(-1)), norm="ortho")),
    "rfft": lambda x, n: real(torch.fft.rfft(x, norm="forward")),
    "irfft": lambda x, n: torch.fft.irfft(torch.complex(x, x.flip(-1))[..., : n // 2 + 1], n=n),
    "hfft": lambda x, n: torch.fft.hfft(torch.complex(x, x.flip(-1))[..., : n // 2 + 1], n=n),
    "ihfft": lambda x, n: real(torch.fft.ihfft(x)),
}


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.some(24)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_of_any_length(name: str, length: int) -> None:
    torch.manual_seed(0)
    transform = TRANSFORMS[name]
    weight = torch.rand(length) + 0.5
    check_function(
        gradient_of(lambda x, w: transform(x * w, length)),
        lambda rows: [torch.randn(rows, length), weight.requires_grad_()],
        rows=(4, 1),
    )


SEVERAL: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "fft2": lambda x: real(torch.fft.fft2(x)),
    "rfft2": lambda x: real(torch.fft.rfft2(x)),
    "irfft2": lambda x: torch.fft.irfft2(torch.fft.rfft2(x) * 2, s=x.shape[-2:]),
    "rfftn": lambda x: real(torch.fft.rfftn(x, dim=(1, 2, 3))),
    "ifftn": lambda x: real(torch.fft.ifftn(torch.complex(x, x), dim=(1, 3))),
    "shifted": lambda x: torch.fft.fftshift(torch.fft.fft2(x).abs()),
    "along another dimension": lambda x: real(torch.fft.fft(x, dim=1)),
}


@pytest.mark.some(6)
@pytest.mark.parametrize("name", SEVERAL)
def test_transforms_along_several_dimensions(name: str) -> None:
    torch.manual_seed(0)
    transform = SEVERAL[name]
    weight = torch.rand(3, 6, 10) + 0.5
    check_function(
        gradient_of(lambda x, w: transform(x * w)),
        lambda rows: [torch.randn(rows, 3, 6, 10), weight.requires_grad_()],
        rows=(4, 1),
    )


class Llama(nn.Module):
    """Rotary positions as the first Llama computes them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.query, self.out = nn.Embedding(9, 8), nn.Linear(8, 8), nn.Linear(8, 9)
        speeds = 1e4 ** (-torch.arange(0, 8, 2) / 8)
        turns = torch.outer(torch.arange(6).float(), speeds)
        self.register_buffer("turns", torch.polar(torch.ones_like(turns), turns), persistent=False)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        q = self.query(self.embed(words))  # (rows, words, 8)
        q = torch.view_as_complex(q.float().reshape(*q.shape[:-1], -1, 2))
        return self.out(torch.view_as_real(q * self.turns).flatten(2))


def test_rotary_positions() -> None:
    torch.manual_seed(0)
    plan = check_training(Llama, lambda rows: (torch.randint(0, 9, (rows, 6)), torch.zeros(rows)))
    assert all(tensor.is_floating_point() for tensor in plan.state)


class Spectrum(nn.Module):
    """What hears words: a short-time transform, sizes, and a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.gain, self.out = nn.Parameter(torch.rand(200) + 0.5), nn.Linear(17, 3)
        self.register_buffer("window", torch.hann_window(32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heard = torch.stft(x * self.gain, 32, 16, window=self.window, return_complex=True)
        return self.out(heard.abs().square().add(1e-6).log().mean(2))


def test_a_short_time_transform() -> None:
    torch.manual_seed(0)
    check_training(Spectrum, lambda rows: (torch.randn(rows, 200), torch.zeros(rows)))


def test_a_short_time_transform_and_back() -> None:
    def both(x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
        window = torch.hann_window(32)
        heard = torch.stft(x * gain, 32, 8, window=window, return_complex=True)
        return torch.istft(heard * 0.5, 32, 8, window=window, length=200)

    torch.manual_seed(0)
    gain = torch.rand(200)
    check_function(
        gradient_of(both), lambda rows: [torch.randn(rows, 200), gain.requires_grad_()], rows=(4, 1)
    )


class Operator(nn.Module):
    """A Fourier neural operator: a layer on the lowest frequencies."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 3, 5, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        low = torch.fft.rfft(x)[..., :5]  # (rows, 2, 5)
        mixed = torch.einsum("bix,iox->box", low, torch.view_as_complex(self.weight))
        whole = torch.zeros(x.shape[0], 3, 9, dtype=torch.cfloat)
        whole[..., :5] = mixed
        return torch.fft.irfft(whole, n=16)


def test_a_layer_on_frequencies() -> None:
    torch.manual_seed(0)
    check_training(Operator, lambda rows: (torch.randn(rows, 2, 16), torch.zeros(rows)))


def _listing(function: Callable[[torch.Tensor], torch.Tensor]) -> list[str]:
    plan: Plan = trace(function, torch.randn(4, 8))
    return [node.op for node in plan.graph.nodes]


def test_parts_are_not_put_together_only_to_be_taken_apart() -> None:
    ops = _listing(lambda x: (pairs(x) * 2j * pairs(x)).abs())
    assert "aten.cat.default" not in ops


class TestWhatIsRefused:
    def test_a_complex_result(self) -> None:
        with pytest.raises(TraceError, match=r"output 0 of the function is complex.*view_as_real"):
            trace(torch.fft.fft, torch.randn(4, 8))

    def test_a_complex_example(self) -> None:
        with pytest.raises(TraceError, match=r"example 0 has the dtype torch\.complex64.*view_as_real"):
            trace(torch.abs, torch.randn(4, 8, dtype=torch.complex64))

    def test_a_transform_along_the_batch(self) -> None:
        with pytest.raises(UnsupportedOpError, match="Along the batch it would depend on the batch's size"):
            trace(lambda x: torch.fft.fft(x, dim=0).real, torch.randn(4, 8))

    def test_a_length_without_factors_with_one_that_has_some(self) -> None:
        length = 4099  # a prime number
        with pytest.raises(UnsupportedOpError, match="Transform 8192 values, with zeros behind yours: n="):
            trace(lambda x: torch.fft.rfft(x).abs(), torch.randn(4, length))
        plan = trace(lambda x: torch.fft.rfft(x, n=8192).abs(), torch.randn(4, length))
        x = torch.randn(2, length)
        torch.testing.assert_close(plan(x)[0], torch.fft.rfft(x, n=8192).abs(), rtol=1e-4, atol=1e-3)

    def test_an_operation_that_is_not_known_for_complex_numbers(self) -> None:
        with pytest.raises(UnsupportedOpError, match=r"aten\.tan.*A Plan computes with real numbers"):
            trace(lambda x: torch.tan(pairs(x)).real, torch.randn(4, 8))


def test_a_transform_of_many_values_takes_its_matrices_from_numbers() -> None:
    plan = trace(lambda x: torch.fft.rfft(x).abs(), torch.randn(4, 4096))
    assert len(plan.serialize()) < 20_000
    shapes = [((4, 4096), "float32")]
    assert plan.check(shapes).work < 4 * 4096 * 4096
    x = torch.randn(3, 4096)
    expected = torch.fft.rfft(x).abs()
    assert float((plan(x)[0] - expected).abs().max()) < 1e-5 * math.sqrt(4096) * 10
