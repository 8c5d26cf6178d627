"""Complex numbers as real arithmetic. No complex value is part of a Plan.

While a recording is run again, a complex tensor is a real one with one more dimension, the last, that holds
real and imaginary part: what `torch.view_as_real` makes of it. So both views of the same memory stay one
tensor, and what writes through one of them is seen through the other.
"""
