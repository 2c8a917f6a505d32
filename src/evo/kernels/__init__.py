"""Floor 1: the operations a model is made of, each with one plain reference and the backends that beat it.

Holds: `attention` (softmax over a stencil), `recurrence` (decaying and delta-rule states), `convolution`
(short and long), `fused` (what a small captured step needs), `structure` (statistics and low-rank factors of
matrices); `dispatch`, which says which backend runs a call and why the others do not, and `tables`, where they are
listed; `operators`, what torch.compile and torch.func see of a kernel; `members`, one call for many members of a
population; `packed_grad`, gradients that lie side by side; `tuning`, tile choices kept on disk.
May import: the standard library, torch, and triton (only inside a backend, only when that backend is asked for).
Never here: specs, modules with parameters, environment variables that change a result.
"""
