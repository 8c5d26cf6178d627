"""Coroutines for callers of all kinds: event loops, threads, notebooks."""
