"""The worker's side and the model owner's side of a grid."""
