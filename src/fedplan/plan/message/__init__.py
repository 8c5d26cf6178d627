"""Plans and tensors as messages: their own, and those that PySyft makes."""
