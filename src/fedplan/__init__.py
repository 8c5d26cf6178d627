"""Model-centric federated learning: training shipped to workers as data, not as code."""
