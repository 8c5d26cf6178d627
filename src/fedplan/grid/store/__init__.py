"""The only SQL of the grid: tables, their history, and the queries, by what they are about."""

from fedplan.grid.store.engine import Store

__all__ = ["Store"]
