"""The memory of a device is some, and no more is free than there is."""

import torch

from surefoot.training.memory import free_bytes, total_bytes


def test_the_memory_of_this_machine_is_some():
    assert 2**20 < free_bytes(torch.device("cpu")) <= total_bytes(torch.device("cpu"))
