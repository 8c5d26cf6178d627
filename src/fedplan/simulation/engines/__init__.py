"""Engines: how the clients of a cycle are computed. All of them give the same reports."""
