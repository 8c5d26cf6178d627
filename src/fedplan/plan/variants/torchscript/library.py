"""TorchScript functions for what takes more than an expression; an archive holds those that it calls.

They are written in the language that archives are written in: torch's operators by their schema's names, a
list's length is ``torch.len``. Only operators that torch 1.7 has, with the same meaning today.
"""

import re
from collections.abc import Iterable

from fedplan.plan.variants.torchscript.matrices import TEXT

_TEXT = """
def clamp(x: Tensor, low: Optional[Tensor], high: Optional[Tensor]) -> Tensor:
  y = x
  if low is not None:
    y = torch.maximum(y, low)
  if high is not None:
    y = torch.minimum(y, high)
  return y

def gelu(x: Tensor, approximate: str) -> Tensor:
  if approximate == 'tanh':
    inner = 0.7978845608028654 * (x + 0.044715 * torch.pow(x, 3))
    y = 0.5 * x * (torch.tanh(inner) + 1)
  else:
    y = torch.gelu(x)
  return y

def gelu_backward(gradient: Tensor, x: Tensor, approximate: str) -> Tensor:
  if approximate == 'tanh':
    t = torch.tanh(0.7978845608028654 * (x + 0.044715 * torch.pow(x, 3)))
    slope = 0.7978845608028654 * (3 * 0.044715 * x * x + 1)
    y = gradient * (0.5 * (t + 1) + 0.5 * x * (1 - t * t) * slope)
  else:
    y = torch.gelu_backward(gradient, x)
  return y

def where(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
  dtype = torch.result_type(a, b)
  return torch.where(condition, torch.to(a, dtype), torch.to(b, dtype))

def where_number(condition: Tensor, a: number, b: Tensor) -> Tensor:
  dtype = torch.result_type(b, a)
  return torch.where(condition, torch.scalar_tensor(a, dtype=dtype), torch.to(b, dtype))

def copysign(a: Tensor, b: Tensor) -> Tensor:
  size = torch.abs(a) * 1.
  return torch.where(torch.signbit(b), torch.neg(size), size)

def maximum_of_numbers(a: Tensor, b: Tensor) -> Tensor:
  dtype = torch.result_type(a, b)
  x, y = torch.to(a, dtype), torch.to(b, dtype)
  return torch.where(torch.isnan(x), y, torch.where(torch.isnan(y), x, torch.maximum(x, y)))

def minimum_of_numbers(a: Tensor, b: Tensor) -> Tensor:
  dtype = torch.result_type(a, b)
  x, y = torch.to(a, dtype), torch.to(b, dtype)
  return torch.where(torch.isnan(x), y, torch.where(torch.isnan(y), x, torch.minimum(x, y)))

def fmod(a: Tensor, b: Tensor) -> Tensor:
  dtype = torch.result_type(a, b)
  return torch.fmod(torch.to(a, dtype), torch.to(b, dtype))

def divide_down(a: Tensor, b: Tensor) -> Tensor:
  left = a - torch.remainder(a, b)
  if torch.is_floating_point(left):
    y = torch.where(torch.eq(b, 0), torch.div(a, b), torch.round(torch.div(left, b)))
  else:
    y = torch.floor_divide(left, b)
  return y

def divide_to_zero(a: Tensor, b: Tensor) -> Tensor:
  quotient = torch.div(a, b)
  if torch.is_floating_point(a + b):
    y = torch.trunc(quotient)
  else:
    y = torch.floor_divide(a - torch.fmod(a, b), b)
  return y

def elu_backward(
    gradient: Tensor, alpha: number, scale: number, input_scale: number, is_result: bool,
    x: Tensor) -> Tensor:
  if is_result:
    below = gradient * input_scale * (x + alpha * scale)
  else:
    below = gradient * input_scale * (torch.exp(x * input_scale) * (alpha * scale))
  return torch.where(torch.le(x, 0), below, gradient * scale)

def every_dim(x: Tensor, dims: List[int]) -> List[int]:
  rank = torch.dim(x)
  whole = annotate(List[int], [])
  if torch.len(dims) == 0:
    for i in range(rank):
      whole = whole + [i]
  for i in range(torch.len(dims)):
    dim = dims[i]
    whole = whole + [dim + rank if dim < 0 else dim]
  return whole

def sizes(x: Tensor, dims: List[int], keepdim: bool) -> List[int]:
  left = annotate(List[int], [])
  for i in range(torch.dim(x)):
    reduced = False
    for j in range(torch.len(dims)):
      if dims[j] == i:
        reduced = True
    if not reduced:
      left = left + [torch.size(x, i)]
    elif keepdim:
      left = left + [1]
  return left

def any(x: Tensor, dims: List[int], keepdim: bool) -> Tensor:
  over = __torch__.every_dim(x, dims)
  y = torch.ne(x, 0)
  for i in range(torch.len(over)):
    y = torch.any(y, over[i], True)
  return torch.reshape(y, __torch__.sizes(x, over, keepdim))

def vector_norm(x: Tensor, order: float, dims: List[int], keepdim: bool, dtype: Optional[int]) -> Tensor:
  over = __torch__.every_dim(x, dims)
  y = torch.to(x, dtype)
  return torch.reshape(torch.norm(y, order, over, True), __torch__.sizes(x, over, keepdim))

def variance(x: Tensor, dims: List[int], correction: float, keepdim: bool) -> Tensor:
  over = __torch__.every_dim(x, dims)
  count = 1
  for i in range(torch.len(over)):
    count = count * torch.size(x, over[i])
  difference = x - torch.mean(x, over, True)
  total = torch.sum(difference * difference, over, keepdim)
  return total / max(float(count) - correction, 0.)

def squeeze(x: Tensor, dims: List[int]) -> Tensor:
  left = annotate(List[int], [])
  for i in range(torch.dim(x)):
    chosen = False
    for j in range(torch.len(dims)):
      if dims[j] == i or dims[j] + torch.dim(x) == i:
        chosen = True
    if torch.size(x, i) != 1 or not chosen:
      left = left + [torch.size(x, i)]
  return torch.reshape(x, left)

def select_scatter(x: Tensor, source: Tensor, dim: int, index: int) -> Tensor:
  y = torch.clone(x)
  part = torch.copy_(torch.select(y, dim, index), source)
  return y

def slice_scatter(
    x: Tensor, source: Tensor, dim: int, start: int, end: int, step: int) -> Tensor:
  y = torch.clone(x)
  part = torch.copy_(torch.slice(y, dim, start, end, step), source)
  return y

def log_softmax_backward(gradient: Tensor, output: Tensor, dim: int, dtype: int) -> Tensor:
  total = torch.sum(gradient, [dim], True)
  return torch.to(gradient - torch.exp(output) * total, dtype)

def softmax_backward(gradient: Tensor, output: Tensor, dim: int, dtype: int) -> Tensor:
  product = gradient * output
  return torch.to(product - output * torch.sum(product, [dim], True), dtype)

def layer_norm(
    x: Tensor, normalized: List[int], weight: Optional[Tensor], bias: Optional[Tensor],
    eps: float) -> Tuple[Tensor, Tensor, Tensor]:
  rows, columns, statistics = __torch__.rows_and_columns(x, normalized)
  lines = torch.reshape(x, [1, rows, columns])
  y, mean, scale = torch.native_group_norm(lines, None, None, 1, rows, columns, rows, eps)
  y = torch.reshape(y, torch.size(x))
  if weight is not None:
    y = y * weight
  if bias is not None:
    y = y + bias
  return (y, torch.reshape(mean, statistics), torch.reshape(scale, statistics))

def rows_and_columns(x: Tensor, normalized: List[int]) -> Tuple[int, int, List[int]]:
  statistics = annotate(List[int], [])
  rows = 1
  columns = 1
  first = torch.dim(x) - torch.len(normalized)
  for i in range(torch.dim(x)):
    if i < first:
      rows = rows * torch.size(x, i)
      statistics = statistics + [torch.size(x, i)]
    else:
      columns = columns * torch.size(x, i)
      statistics = statistics + [1]
  return (rows, columns, statistics)

def layer_norm_backward(
    gradient: Tensor, x: Tensor, normalized: List[int], mean: Tensor, scale: Tensor,
    weight: Optional[Tensor], wanted: List[bool]) -> Tuple[Tensor, Tensor, Tensor]:
  to_x, to_weight, to_bias = torch.zeros([0]), torch.zeros([0]), torch.zeros([0])
  rows, columns, statistics = __torch__.rows_and_columns(x, normalized)
  shape = [1, rows, columns]
  over = annotate(List[int], [])
  for i in range(torch.dim(x) - torch.len(normalized)):
    over = over + [i]
  if wanted[0]:
    slope = gradient
    if weight is not None:
      slope = gradient * weight
    to_lines, none, nothing = torch.native_group_norm_backward(
      torch.reshape(torch.contiguous(slope), shape), torch.reshape(torch.contiguous(x), shape),
      torch.reshape(mean, [1, rows]), torch.reshape(scale, [1, rows]), None, 1, rows, columns, rows,
      [True, False, False])
    to_x = torch.reshape(to_lines, torch.size(x))
  if wanted[1]:
    to_weight = gradient * ((x - mean) * scale)
    if torch.len(over) > 0:
      to_weight = torch.sum(to_weight, over)
  if wanted[2]:
    to_bias = gradient
    if torch.len(over) > 0:
      to_bias = torch.sum(gradient, over)
  return (to_x, to_weight, to_bias)

def batch_norm(
    x: Tensor, weight: Optional[Tensor], bias: Optional[Tensor], running_mean: Tensor,
    running_var: Tensor, training: bool, momentum: float,
    eps: float) -> Tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
  if training:
    y, mean, scale = torch.native_batch_norm(x, weight, bias, None, None, True, momentum, eps)
    rows = torch.reshape(torch.transpose(x, 0, 1), [torch.size(x, 1), -1])
    new_mean = running_mean * (1 - momentum) + torch.mean(rows, [1]) * momentum
    new_var = running_var * (1 - momentum) + torch.var(rows, [1], True) * momentum
  else:
    y, mean, scale = __torch__.batch_norm_no_training(
      x, weight, bias, running_mean, running_var, momentum, eps)
    new_mean, new_var = running_mean, running_var
  return (y, mean, scale, new_mean, new_var)

def batch_norm_no_training(
    x: Tensor, weight: Optional[Tensor], bias: Optional[Tensor], running_mean: Tensor,
    running_var: Tensor, momentum: float, eps: float) -> Tuple[Tensor, Tensor, Tensor]:
  y, mean, scale = torch.native_batch_norm(x, weight, bias, running_mean, running_var, False, momentum, eps)
  return (y, torch.zeros([0]), torch.zeros([0]))

def smooth_loss(
    logs: Tensor, target: Tensor, weight: Optional[Tensor], reduction: int, ignored: int) -> Tensor:
  left = torch.ne(target, ignored)
  counted = torch.to(left, 6)
  scores = logs
  if weight is not None:
    scores = torch.transpose(torch.transpose(logs, 1, -1) * weight, 1, -1)
    of_target = torch.index_select(weight, 0, torch.reshape(target * torch.to(left, 4), [-1]))
    counted = counted * torch.reshape(of_target, torch.size(target))
  y = -torch.sum(scores, [1])
  y = torch.where(left, y, torch.zeros_like(y))
  if reduction == 1:
    y = torch.sum(y) / torch.sum(counted)
  elif reduction == 2:
    y = torch.sum(y)
  return y

def cross_entropy(
    x: Tensor, target: Tensor, weight: Optional[Tensor], reduction: int, ignored: int,
    smoothing: float) -> Tensor:
  logs = torch.log_softmax(x, 1)
  share = smoothing / float(torch.size(x, 1))
  if torch.is_floating_point(target):
    product = logs * (target * (1 - smoothing) + share)
    if weight is not None:
      product = torch.transpose(torch.transpose(product, 1, -1) * weight, 1, -1)
    y = -torch.sum(product, [1])
    if reduction == 1:
      y = torch.mean(y)
    elif reduction == 2:
      y = torch.sum(y)
  elif torch.dim(x) == 2:
    y = torch.nll_loss(logs, target, weight, reduction, ignored)
  else:
    y = torch.nll_loss2d(logs, target, weight, reduction, ignored)
  if smoothing > 0. and not torch.is_floating_point(target):
    y = y * (1 - smoothing) + __torch__.smooth_loss(logs, target, weight, reduction, ignored) * share
  return y

def adaptive_average_backward(gradient: Tensor, x: Tensor, axes: int) -> Tensor:
  y = gradient
  for i in range(axes):
    axis = torch.dim(x) - axes + i
    shares = __torch__.averages(torch.size(x, axis), torch.size(y, axis), y)
    y = torch.transpose(torch.matmul(torch.transpose(y, axis, -1), shares), axis, -1)
  return y

def averages(cells: int, windows: int, like: Tensor) -> Tensor:
  window = torch.unsqueeze(torch.arange(windows, dtype=4), -1)
  first = torch.floor_divide(window * cells, windows)
  end = torch.floor_divide((window + 1) * cells + windows - 1, windows)
  cell = torch.arange(cells, dtype=4)
  inside = torch.logical_and(torch.ge(cell, first), torch.lt(cell, end))
  return torch.type_as(inside, like) / torch.type_as(end - first, like)

def sampled_backward(
    gradient: Tensor, x: Tensor, grid: Tensor, mode: int, padding: int,
    align_corners: bool) -> Tuple[Tensor, Tensor]:
  whole, places = torch.contiguous(x), torch.contiguous(grid)
  a, b = torch._grid_sampler_2d_cpu_fallback_backward(
      torch.contiguous(gradient), whole, places, mode, padding, align_corners)
  return (a, b)

def nearest_places(cells: int, wanted: int, scale: Optional[float]) -> Tensor:
  step = float(cells) / float(wanted)
  if scale is not None:
    if scale > 0.:
      step = 1. / scale
  places = torch.floor((torch.arange(wanted, dtype=6) + 0.5) * step)
  return torch.to(torch.clamp(places, 0, cells - 1), 4)

def nearest_exact(x: Tensor, sizes: List[int], scales: List[Optional[float]]) -> Tensor:
  y = x
  for i in range(torch.len(sizes)):
    y = torch.index_select(y, i + 2, __torch__.nearest_places(torch.size(x, i + 2), sizes[i], scales[i]))
  return y

def nearest_exact_backward(gradient: Tensor, sizes: List[int], scales: List[Optional[float]]) -> Tensor:
  y = gradient
  for i in range(torch.len(scales)):
    places = __torch__.nearest_places(sizes[i + 2], torch.size(gradient, i + 2), scales[i])
    shape = torch.slice(torch.size(y), 0, i + 2, 1) + [sizes[i + 2]] + torch.slice(torch.size(y), i + 3)
    y = torch.index_add(torch.type_as(torch.zeros(shape), y), i + 2, places, y)
  return y

def numbers(x: Tensor) -> List[int]:
  found = annotate(List[int], [])
  for i in range(torch.size(x, 0)):
    found = found + [int(torch.select(x, 0, i))]
  return found

def ctc_loss(
    scores: Tensor, targets: Tensor, lengths: Tensor, target_lengths: Tensor, blank: int,
    zero_infinity: bool) -> Tuple[Tensor, Tensor]:
  given, wanted = __torch__.numbers(lengths), __torch__.numbers(target_lengths)
  loss, alphas = torch._ctc_loss(scores, targets, given, wanted, blank, zero_infinity)
  steps = torch.lt(torch.arange(torch.size(alphas, 1), dtype=4), torch.unsqueeze(lengths, 1))
  states = torch.lt(torch.arange(torch.size(alphas, 2), dtype=4), torch.unsqueeze(2 * target_lengths + 1, 1))
  known = torch.logical_and(torch.unsqueeze(steps, 2), torch.unsqueeze(states, 1))
  return (loss, torch.where(known, alphas, torch.zeros_like(alphas)))

def ctc_loss_backward(
    gradient: Tensor, scores: Tensor, targets: Tensor, lengths: Tensor, target_lengths: Tensor,
    loss: Tensor, alphas: Tensor, blank: int, zero_infinity: bool) -> Tensor:
  given, wanted = __torch__.numbers(lengths), __torch__.numbers(target_lengths)
  return torch._ctc_loss_backward(
    gradient, scores, targets, given, wanted, loss, alphas, blank, zero_infinity)
"""

_DEFINITION = re.compile(r"^def (\w+)", re.MULTILINE)
_CALL = re.compile(r"__torch__\.(\w+)\(")


def _split(text: str) -> dict[str, str]:
    starts = [*_DEFINITION.finditer(text)]
    ends = [*(match.start() for match in starts[1:]), len(text)]
    return {match[1]: text[match.start() : end].strip() for match, end in zip(starts, ends, strict=True)}


FUNCTIONS = _split(_TEXT) | _split(TEXT)
"""The text of each function, by name."""


def called(texts: Iterable[str]) -> list[str]:
    """The functions that these texts call, and those that they call themselves, by name."""
    found: dict[str, None] = {}
    waiting = list(texts)
    while waiting:
        for name in _CALL.findall(waiting.pop()):
            if name not in found:
                found[name] = None
                waiting.append(FUNCTIONS[name])
    return sorted(found)
