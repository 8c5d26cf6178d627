"""One data set, split over many workers as federations find it.

Each function returns one array of indices for each part. Every sample is in exactly one part and no part is
empty. The same arguments and seed give the same split.
"""

from fedplan.data.partition.keys import partition_by_key
from fedplan.data.partition.labels import partition_classes, partition_dirichlet, partition_shards
from fedplan.data.partition.picture import plot_partition
from fedplan.data.partition.sizes import partition_iid, partition_quantity

__all__ = [
    "partition_by_key",
    "partition_classes",
    "partition_dirichlet",
    "partition_iid",
    "partition_quantity",
    "partition_shards",
    "plot_partition",
]
