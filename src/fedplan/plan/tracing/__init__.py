"""From a function of tensors, or a training step of an `nn.Module`, to a Plan."""
