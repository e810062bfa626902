"""A CUDA graph's stand-in on the CPU: it replays operators on the addresses that they had, and runs no Python."""

import math

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten


class Recorded(TorchDispatchMode):
    """Records the operators of a block below autograd, as a capture records kernels; calling it does them again.

    They have to run for that, which those of a capture do not: so what they change is as it was after the block.

    What operators make on the way lies in `pool`, as in the private pool of a graph: before a replay, all that
    recordings with this pool made on the way is overwritten with what nothing can be computed of.
    """

    def __init__(self, pool):
        super().__init__()
        self.calls, self.former = [], {}
        self.pool, self.there, self.made = pool, set(), set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func._overloadpacket.__name__ in ("_local_scalar_dense", "nonzero"):
            raise RuntimeError("operation not permitted when stream is capturing")
        silent = "batch_norm" in func.name()  # its schema does not say that it writes running statistics
        for i, argument in enumerate(func._schema.arguments):
            if silent or (argument.alias_info is not None and argument.alias_info.is_write):
                written = args[i] if i < len(args) else kwargs.get(argument.name)
                for tensor in tree_flatten(written)[0]:
                    if isinstance(tensor, Tensor):
                        self.former.setdefault(id(tensor), (tensor, tensor.detach().clone()))
        outputs = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, outputs))
        for tensor in tensors((args, kwargs)):
            if place(tensor) not in self.made:
                self.there.add(place(tensor))
        for tensor in tensors(outputs):
            if place(tensor) not in self.there | self.made:
                self.made.add(place(tensor))
                self.pool.append(tensor.detach())
        return outputs

    def __exit__(self, *exception):
        super().__exit__(*exception)
        for tensor, value in reversed(self.former.values()):
            tensor.detach().copy_(value)

    def __call__(self):
        for tensor in self.pool:
            tensor.fill_(math.nan if tensor.is_floating_point() else -77)
        for func, args, kwargs, outputs in self.calls:
            again = func(*args, **kwargs)
            for there, value in zip(tree_flatten(outputs)[0], tree_flatten(again)[0], strict=True):
                if isinstance(there, Tensor) and there.data_ptr() != value.data_ptr():
                    there.detach().copy_(value)


def tensors(values):
    return [value for value in tree_flatten(values)[0] if isinstance(value, Tensor)]


def place(tensor):
    return tensor.untyped_storage().data_ptr()


def recorded(function, device, pool=None):
    """Return the recording of a function, in place of `graph.captured`."""
    with (mode := Recorded([] if pool is None else pool)):
        function()
    return mode
