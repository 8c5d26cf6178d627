"""Data sets, loaders, samplers and transforms for workers, and the splitting of one data set over many."""

from fedplan.data.batch import collate
from fedplan.data.dataset import Dataset, TensorDataset
from fedplan.data.loader import DataLoader
from fedplan.data.partition import partition_dirichlet, partition_iid, partition_shards
from fedplan.data.sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler
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
    "TensorDataset",
    "ToTensor",
    "Transform",
    "collate",
    "partition_dirichlet",
    "partition_iid",
    "partition_shards",
]
