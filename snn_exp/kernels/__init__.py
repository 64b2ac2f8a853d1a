"""Norm, neuron and surrogate in one pass over the data; the plain path is the reference and the judge.

Where what stands:

    fused.cpp   the passes for a CPU, in C++
    build.py    compiles them at first use, for one case, and keeps what comes out
    on_cpu.py   calls them
    passes.py   the passes for a GPU, in Triton
    on_gpu.py   launches them
    layout.py   how the large tensors lie
    forms.py    which neurons, surrogates and norms have a fused form
    fused.py    the autograd of it
    choice.py   whether a run uses them, and why

Forward, a fused neuron gives bitwise what the plain one gives. A norm that it takes in (in training only) and the
gradients differ by rounding: sums are formed in another order. In bfloat16 only what is stored is rounded to it.

Triton's passes are tested in its interpreter and compiled for a GPU; they never ran on one, so only
trainer.kernels=fused takes them. Why C++ and not torch.compile on a CPU: benchmarks/kernels.md.
"""

from snn_exp.kernels.choice import Choice, choose, fuse
from snn_exp.kernels.forms import Form, form_of

__all__ = ["Choice", "Form", "choose", "form_of", "fuse"]
