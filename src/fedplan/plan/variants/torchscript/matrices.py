"""TorchScript functions for linear algebra, in the language of `library`.

Torch 1.7 and 1.8 have other functions than today's; these are said with what all have.
"""

TEXT = """
def noted(x: Tensor) -> Tensor:
  return torch.zeros(torch.slice(torch.size(x), 0, -2, 1), dtype=3)

def determinant(x: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
  factors, pivots, info = torch._lu_with_info(torch.transpose(x, -2, -1), True, False)
  return (torch.det(x), factors, pivots)

def log_determinant(x: Tensor) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
  sign, logarithm = torch.slogdet(x)
  factors, pivots, info = torch._lu_with_info(torch.transpose(x, -2, -1), True, False)
  return (sign, logarithm, factors, pivots)

def solve(a: Tensor, b: Tensor, left: bool) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
  factors, pivots, info = torch._lu_with_info(a, True, True)
  vector = torch.dim(b) == 1
  if torch.dim(b) == torch.dim(a) - 1:
    vector = vector or torch.size(b) == torch.slice(torch.size(a), 0, -1, 1)
  right = torch.unsqueeze(b, -1) if vector else b
  x = __torch__.solve_factored(factors, pivots, right, left, False)
  if vector:
    x = torch.squeeze(x, -1)
  return (x, factors, pivots, info)

def inverse(x: Tensor) -> Tuple[Tensor, Tensor]:
  return (torch.inverse(x), __torch__.noted(x))

def cholesky(x: Tensor, upper: bool) -> Tuple[Tensor, Tensor]:
  return (torch.cholesky(x, upper), __torch__.noted(x))

def orthogonal(x: Tensor, mode: str) -> Tuple[Tensor, Tensor]:
  q, r = torch.qr(x, mode != 'complete')
  if mode == 'r':
    q = torch.type_as(torch.zeros([0]), x)
  return (q, r)

def singular_values(x: Tensor, full: bool, vectors: bool) -> Tuple[Tensor, Tensor, Tensor]:
  left, numbers, right = torch.svd(x, not full, vectors)
  if vectors:
    right = torch.transpose(right, -2, -1)
  else:
    left, right = torch.zeros([0]), torch.zeros([0])
  return (left, numbers, right)

def rows_after_swaps(pivots: Tensor, rows: int) -> Tensor:
  numbers = torch.arange(rows, dtype=4)
  order = torch.expand(numbers, torch.slice(torch.size(pivots), 0, -1, 1) + [rows])
  for i in range(torch.size(pivots, -1)):
    other = torch.to(torch.narrow(pivots, -1, i, 1), 4) - 1
    here = torch.narrow(order, -1, i, 1)
    there = torch.gather(order, -1, other)
    swapped = torch.scatter(order, -1, other, here)
    order = torch.scatter(swapped, -1, torch.full_like(other, i), there)
  return order

def unpack(
    factors: Tensor, pivots: Tensor, wanted: bool, order_wanted: bool) -> Tuple[Tensor, Tensor, Tensor]:
  rows, columns = torch.size(factors, -2), torch.size(factors, -1)
  order, lower, upper = torch.zeros([0]), torch.zeros([0]), torch.zeros([0])
  if wanted:
    inner = min(rows, columns)
    one = torch.type_as(torch.eye(rows, inner), factors)
    lower = torch.tril(torch.narrow(factors, -1, 0, inner), -1) + one
    upper = torch.triu(torch.narrow(factors, -2, 0, inner))
  if order_wanted:
    found = torch.unsqueeze(__torch__.rows_after_swaps(pivots, rows), -2)
    order = torch.type_as(torch.eq(found, torch.unsqueeze(torch.arange(rows, dtype=4), -1)), factors)
  return (order, lower, upper)

def lower_and_upper(x: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
  factors, pivots, info = torch._lu_with_info(x, True, True)
  return __torch__.unpack(factors, pivots, True, True)

def solve_factored(factors: Tensor, pivots: Tensor, b: Tensor, left: bool, adjoint: bool) -> Tensor:
  order, lower, upper = __torch__.unpack(factors, pivots, True, True)
  right = b if left else torch.transpose(b, -2, -1)
  if int(adjoint) == int(left):
    y, a = torch.triangular_solve(right, upper, True, True, False)
    z, a = torch.triangular_solve(y, lower, False, True, True)
    x = torch.matmul(order, z)
  else:
    swapped = torch.matmul(torch.transpose(order, -2, -1), right)
    y, a = torch.triangular_solve(swapped, lower, False, False, True)
    x, a = torch.triangular_solve(y, upper, True, False, False)
  return x if left else torch.transpose(x, -2, -1)

def solve_triangular(a: Tensor, b: Tensor, upper: bool, left: bool, unit: bool) -> Tensor:
  if left:
    x, c = torch.triangular_solve(b, a, upper, False, unit)
  else:
    turned = torch.transpose(a, -2, -1)
    y, c = torch.triangular_solve(torch.transpose(b, -2, -1), turned, not upper, False, unit)
    x = torch.transpose(y, -2, -1)
  return x
"""
