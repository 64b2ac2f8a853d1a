"""A folded single-step network with int8 weights.

Shapes: T steps, which is 1, B batch, C channels, H W space, N any feature dimensions, K classes.
Symbols: s spikes or, of a ReLU, counts of its scale, both in uint8; q weights in int8; a scale of an activation.

A hidden weight layer that reads nothing but a neuron works in integers:

    weights     q = round(W / w), w = max |W| / 127 per output channel
    sum         an int32 sum of q s, exact, since a spike is 0 or 1 without any rounding
    current     w a sum + bias, in float32; the shortcut is added to it
    spike       H(current - threshold) -> uint8
    weights whose only reader is a neuron fire by their sum alone: H(sum - t), t an integer per channel

A ReLU has no exact form: its output is rounded to multiples of a = largest output on calibration data / 255.
The first weights, the last, and all that reads anything else stay in float32.

The products are oneDNN's, through torch: uint8 by int8, channels last in memory.

Modules:

    layers.py     integer weights, and the neurons beside them
    convert.py    a folded network -> the same graph with these layers
    run.py        a folded run -> accuracy, flipped predictions and size in int8
"""

from snn_exp.export.int8.convert import Deployed, floating, integer
from snn_exp.export.int8.layers import Fire, IntegerRectified, IntegerSpikes, IntegerWeights, Rectify
from snn_exp.export.int8.run import IntegerResult, integer_run

__all__ = [
    "Deployed",
    "Fire",
    "IntegerRectified",
    "IntegerResult",
    "IntegerSpikes",
    "IntegerWeights",
    "Rectify",
    "floating",
    "integer",
    "integer_run",
]
