"""A CUDA graph's stand-in on the CPU: it replays operators on the addresses that they had, and runs no Python."""

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten


class Recorded(TorchDispatchMode):
    """Records the operators of a block below autograd, as a capture records kernels; calling it does them again.

    They have to run for that, which those of a capture do not: so what they change is as it was after the block.
    """

    def __init__(self):
        super().__init__()
        self.calls, self.former = [], {}

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
        return outputs

    def __exit__(self, *exception):
        super().__exit__(*exception)
        for tensor, value in reversed(self.former.values()):
            tensor.detach().copy_(value)

    def __call__(self):
        for func, args, kwargs, outputs in self.calls:
            again = func(*args, **kwargs)
            for there, value in zip(tree_flatten(outputs)[0], tree_flatten(again)[0], strict=True):
                if isinstance(there, Tensor) and there.data_ptr() != value.data_ptr():
                    there.detach().copy_(value)


def recorded(function, device):
    """Return the recording of a function, in place of `graph.captured`."""
    with (mode := Recorded()):
        function()
    return mode
