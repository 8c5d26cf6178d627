"""Makes the documentation's site: its pages, the reference from docstrings, and what checks its links."""
