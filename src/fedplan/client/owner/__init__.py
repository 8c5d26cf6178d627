"""The model owner's side: hosting, waiting, history."""
