"""The forms in which one Plan is served: the op list, TorchScript for phones, tfjs for browsers."""
