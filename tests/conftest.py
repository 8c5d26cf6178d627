"""What holds for all tests."""

import os

import torch

# Small tensors gain nothing from more threads, and lose much when the other cores are busy.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start
