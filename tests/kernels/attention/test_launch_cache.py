"""Launching a kernel again: what a launch depends on, and in which order its arguments go."""

import torch

from evo.kernels.attention.triton.launch_cache import Launch, specialization_key


def test_keys_tell_apart_what_compiles_differently():
    """Dtype, shape, strides, the address modulo 16 and absence each change the key; other numbers do not."""
    x = torch.zeros(2, 3, 16)
    storage = torch.zeros(97)
    at_start, one_on = storage[:96].view(2, 3, 16), storage[1:].view(2, 3, 16)
    others = [x.half(), x[:1], x.transpose(0, 1).contiguous().transpose(0, 1), None]
    assert specialization_key(x, at_start) == specialization_key(torch.ones(2, 3, 16), at_start)
    assert all(specialization_key(x) != specialization_key(other) for other in others)
    assert specialization_key(at_start) != specialization_key(one_on)


class Kernel:
    """Stands for a Triton kernel that notes how it and what it compiled were called."""

    arg_names = ("a_ptr", "b_ptr", "size", "M", "KIND")

    def __init__(self, compiles):
        self.calls, self.compiles = [], compiles

    def __getitem__(self, grid):
        def launch(*tensors, **named):
            self.calls.append(("kernel", grid, tensors, named))
            return self if self.compiles else None

        def again(*arguments):
            self.calls.append(("compiled", grid, arguments))

        return again if len(grid) == 3 else launch


def test_second_launch_goes_round_the_lookup():
    """The first call goes by name through the kernel; the next give the compiled one all arguments in its order."""
    kernel = Kernel(compiles=True)
    named = {"M": 64, "num_warps": 4, "KIND": 2, "size": 7}
    launch = Launch(kernel, (5,), named)
    launch("a", None)
    launch("c", None)
    assert kernel.calls == [("kernel", (5,), ("a", None), named), ("compiled", (5, 1, 1), ("c", None, 7, 64, 2))]


def test_what_compiles_nothing_is_launched_as_before():
    """Under the interpreter each call goes through the kernel."""
    kernel = Kernel(compiles=False)
    launch = Launch(kernel, (5,), {})
    launch("a")
    launch("b")
    assert [call[0] for call in kernel.calls] == ["kernel", "kernel"]
