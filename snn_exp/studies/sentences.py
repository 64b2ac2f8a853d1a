"""The sentences of the two abstracts that claims of studies bear on. No torch.

The words are ours: short enough to be tested, and no wider than what the abstracts say.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Sentence:
    """A sentence of an abstract, in our words.

    Args:
        paper: whose abstract it is.
        says: the sentence.
    """

    paper: str
    says: str


PSP = "PSP normalization (Ikegawa et al. 2022)"
S2NN = "S2NN (Suetake et al. 2022)"
SENTENCES = {
    "psp_firing": Sentence(PSP, "Normalizing the postsynaptic potential controls firing: fewer neurons fire"),
    "psp_accuracy": Sentence(PSP, "Networks with PSP normalization are more accurate than with other normalizations"),
    "psp_depth": Sentence(
        PSP,
        "In pre-activation blocks PSP normalization trains deep, past 100 layers, with nothing else made for spikes",
    ),
    "psp_blocks": Sentence(
        PSP, "It is the pre-activation block, not the post-activation one, with which spiking networks train deep"
    ),
    "s2nn_surrogate": Sentence(S2NN, "The surrogate reduced to a single step trains a single-step network suitably"),
    "s2nn_accuracy": Sentence(S2NN, "A single-step network is about as accurate as full precision"),
    "s2nn_energy": Sentence(S2NN, "A single-step network takes far less energy"),
    "s2nn_others": Sentence(S2NN, "It is more accurate than the neurons of binary and of multi-step spiking networks"),
}
