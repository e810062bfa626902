"""A tensor on disk does what a tensor does, and reads as late as can be."""

import numpy as np
import torch

from surefoot.data.mapped import Mapped
from surefoot.data.mapped_tensor import MappedTensor


def test_what_a_tensor_can_do_a_mapped_one_can():
    plain = torch.arange(24, dtype=torch.int32).reshape(6, 2, 2)
    there = MappedTensor(Mapped(plain.numpy()))
    mask = torch.tensor([True, False, True, False, False, True])
    acts = [
        lambda x: x[1:3], lambda x: x[-1], lambda x: x[5], lambda x: x[torch.tensor([2, 0])], lambda x: x[mask],
        lambda x: x[[3, 3]], lambda x: x.index_select(0, torch.tensor([1])), lambda x: x.long()[:2],
        lambda x: x.float().mean(), lambda x: x.reshape(6, -1).amax(1), lambda x: x.reshape(len(x), 4)[1],
        lambda x: (x == 3).sum(), lambda x: x[:, 1], lambda x: x.double().std(0), lambda x: torch.cat([x, x]),
        lambda x: x.bfloat16()[:2], lambda x: x[1, 0], lambda x: torch.from_numpy(x.numpy()),
        lambda x: x.detach()[:1], lambda x: x.cpu().contiguous()[2:3], lambda x: x[4:][0], lambda x: x[::2],
        lambda x: torch.stack(list(x)), lambda x: x.index_select(1, torch.tensor([1])),
    ]  # fmt: skip
    for i, act in enumerate(acts):
        assert torch.equal(act(there), act(plain)), i
    assert "MappedTensor(shape=(6, 2, 2)" in repr(there)


def test_another_type_or_place_reads_nothing():
    reads = []

    class Counted(Mapped):
        def __getitem__(self, key):
            reads.append(key)
            return super().__getitem__(key)

    there = MappedTensor(Counted(np.zeros((6, 2), np.int32)))
    for same in (there.cpu(), there.to("cpu"), there.contiguous(), there.detach(), there.long(), there.reshape(6, 2)):
        assert isinstance(same, MappedTensor)
    assert (there.shape, there.dim(), len(there), there.is_floating_point()) == ((6, 2), 2, 6, False)
    assert reads == []
