"""Data sets, loaders, samplers and transforms for workers, and the splitting of one data set over many."""

from fedplan.data.batch import collate
from fedplan.data.dataset import Dataset, TensorDataset
from fedplan.data.loader import DataLoader
from fedplan.data.partition import (
    partition_by_key,
    partition_classes,
    partition_dirichlet,
    partition_iid,
    partition_quantity,
    partition_shards,
    plot_partition,
)
from fedplan.data.sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler
from fedplan.data.synthetic import Synthetic
from fedplan.data.transform import Compose, Normalize, OneHot, ToTensor, Transform

__all__ = [
    "BatchSampler",
    "Compose",
    "DataLoader",
    "Dataset",
    "Normalize",
    "OneHot",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "Synthetic",
    "TensorDataset",
    "ToTensor",
    "Transform",
    "collate",
    "partition_by_key",
    "partition_classes",
    "partition_dirichlet",
    "partition_iid",
    "partition_quantity",
    "partition_shards",
    "plot_partition",
]
