"""The version of fedplan, in one place; the build reads it from here."""

__version__ = "0.1.0"
"""Version of this package, as `MAJOR.MINOR.PATCH`."""
