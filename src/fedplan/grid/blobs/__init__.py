"""Models, Plans and diffs as bytes under keys: in a folder or an object store."""

from fedplan.grid.blobs.blobs import Blobs

__all__ = ["Blobs"]
