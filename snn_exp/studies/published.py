"""Published figures to stand beside ours, each with how it was chosen. No torch.

They are as their sources print them: other networks, other recipes, other ways of choosing. None is reproduced here.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Published:
    """A published accuracy.

    Args:
        what: the network.
        accuracy: in percent, as printed; several in the order of `what`.
        chosen: how the epoch was chosen; "not said" where we found nothing on it.
        source: title of the source.
        url: of the source.
    """

    what: str
    accuracy: str
    chosen: str
    source: str
    url: str


_PLIF = ("PLIF, README", "https://github.com/fangwei123456/Parametric-Leaky-Integrate-and-Fire-Spiking-Neuron")
_TUTORIAL = ("SpikingJelly, tutorial", "https://github.com/fangwei123456/spikingjelly")
_FASHION = ("fashion-mnist, README", "https://github.com/zalandoresearch/fashion-mnist")
PUBLISHED = {
    "fashion_mnist": (
        Published("PLIF, conv 128 x 2, FC 2048, T = 8", "94.38", "best epoch on the test set", *_PLIF),
        Published("the same", "93.85", "on validation data", *_PLIF),
        Published("LIF, conv 128 x 2, FC 2048, T = 8", "94.17", "best epoch on the test set", *_PLIF),
        Published("IF, conv 128 x 2, FC 2048, T = 4, 64 epochs", "93.08", "best epoch on the test set", *_TUTORIAL),
        Published("the same", "92.83", "last epoch", *_TUTORIAL),
        Published("SDSNN, T = 1", "93.72", "not said", "arXiv 2508.10913", "https://arxiv.org/abs/2508.10913"),
        Published("time to first spike", "92.90", "not said", "arXiv 2410.23619", "https://arxiv.org/abs/2410.23619"),
        Published("full precision, two convolutions and BN", "93.4", "not said", *_FASHION),
        Published("full precision, ResNet-18", "94.9", "not said", *_FASHION),
        Published("full precision, WRN-40-4", "96.7", "not said", *_FASHION),
    ),
}
