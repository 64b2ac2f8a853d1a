"""Energy in three numbers: compute, with data moved, and the quantized network of equal bits. No torch.

All are of one sample in the inference form, priced from stored counts (`operations.SynapticOperations`):

    E1   compute alone: what `energy.energy_pj` gives without memory
    E2   E1, and what is moved: weights, neuron states, streams, activations; sums of streams and comparisons
    E3   the network of the same shape that computes once, with activations of as many bits as this one's steps carry:
         from its dense count, and with credit for the inputs that are 0 in every step here

At one step a network is its own quantized network: with credit for zeros E2 and E3 are then the same, but for levels
that run as spikes in binary slots. So what a spike of one step saves are its zeros, and nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from snn_exp.config import schemas
from snn_exp.config.experiment import EnergyConfig, ExperimentConfig, resolve
from snn_exp.errors import UserError
from snn_exp.metrics.energy import energy_pj, joules


@dataclasses.dataclass(frozen=True)
class Bits:
    """The sizes of what a network computes with.

    Args:
        activation: of a neuron's output, all steps together.
        step: of a neuron's output at one step.
        weight: of a weight of the layers between the first and the last.
        end: of a weight of these two.
        word: of a state, a stream, an accumulator, and of a number in full precision.
    """

    activation: int
    step: int
    weight: int
    end: int
    word: int

    @classmethod
    def of(cls, config: ExperimentConfig, word: int) -> Bits:
        """Read them from a config.

        Example:
            >>> from snn_exp.config.compose import compose
            >>> Bits.of(compose(["neuron=lif", "weight_quant=int"]), 32)
            Bits(activation=3, step=1, weight=4, end=32, word=32)
            >>> Bits.of(compose(["neuron=relu"]), 32).activation
            32
        """
        emits = schemas.load()["neuron"][str(config.neuron["name"])].traits["emits"]
        levels = 2 ** int(config.neuron["bits"] or 1) - 1 if "bits" in config.neuron else config.neuron.get("levels", 1)
        most = int(levels or 1) * (2 if emits == "ternary" else 1)  # the largest sum of levels of one step, from 0
        quant = config.weight_quant
        weight = {"bnn": 1, "xnor": 1, "int": int(quant.get("bits") or word)}.get(str(quant["name"]), word)
        return cls(
            activation=word if emits == "real" else min(word, (most * config.num_steps).bit_length()),
            step=word if emits == "real" else most.bit_length(),
            weight=weight,
            end=weight if quant.get("ends") else word,
            word=word,
        )


@dataclasses.dataclass(frozen=True)
class ThreeEnergies:
    """The energies of one sample, pJ, by part.

    Args:
        compute: E1.
        moved: E2.
        quantized: E3, dense.
        with_zeros: E3, with credit for inputs that are 0.
        bits: the sizes that were priced.
        rate: the network's own firing rate.
        break_even: the firing rate below which E2 is below E3 (dense), if fan-out and everything else stay; 0 where no
            rate is, None where nothing but multiplications depends on spikes.
    """

    compute: Mapping[str, float]
    moved: Mapping[str, float]
    quantized: Mapping[str, float]
    with_zeros: Mapping[str, float]
    bits: Bits
    rate: float
    break_even: float | None

    @property
    def ratio(self) -> float:
        """Return E2 / E3 against the dense count."""
        return sum(self.moved.values()) / sum(self.quantized.values())

    @property
    def ratio_with_zeros(self) -> float:
        """Return E2 / E3 against the count with credit for zeros."""
        return sum(self.moved.values()) / sum(self.with_zeros.values())

    def text(self) -> str:
        """Format both for the terminal: the energies, then what they say."""
        e1, e2, e3, zeros = (sum(e.values()) for e in (self.compute, self.moved, self.quantized, self.with_zeros))
        parts = ", ".join(f"{part} {joules(pj)}" for part, pj in self.moved.items() if pj)
        return (
            f"E1 {joules(e1)} compute; E2 {joules(e2)} with data moved ({parts}); E3 {joules(e3)} of a network of "
            f"{self.bits.activation}-bit activations, {joules(zeros)} with credit for zeros\n"
            f"E2/E3 {self.ratio:.3g}, with credit for zeros {self.ratio_with_zeros:.3g}; break-even firing rate "
            f"{self._break_even_text()}, its own {self.rate:.3f}"
        )

    def _break_even_text(self) -> str:
        if self.break_even is None:
            return "none, since it multiplies"
        if self.break_even == 0:
            return "none, since E3 is below what no spike decides"
        return f"{self.break_even:.3f}" if self.break_even < 1 else "1, so any"


def prices_movement(profile: EnergyConfig) -> bool:
    """Return whether a profile has prices of data movement."""
    return profile.weight_bit_pj > 0 or profile.bit_pj > 0


def three_energies(
    metrics: Mapping[str, float], split: str, profile: EnergyConfig, config: ExperimentConfig
) -> ThreeEnergies:
    """Compute the three energies of a run.

    Equation:
        E2 = E1 + add sums + compare comparisons + sum over effective operations of b_w e_w
             + 2 b e updates of states + 2 b e sums + b_step e activations T
        E3 = sum over operations of (E_mac(b) + b_w e_w) + the sums, comparisons and activations of one step
        E_mac(b) = add + (mac - add) (b - 1) / (B - 1),  B the bits of a word: 1 bit adds, B bits multiply
        s* = s (E3 - F) / V,  E2 = V + F, V what is paid per spike at the network's own rate s

    e_w and e are prices of a bit of a weight and of anything else; b is a word where nothing else is said. A stream is
    read and written at every sum, a state at every update, and an activation moved once. The first layer and the last
    compute and are moved in full precision in both. Multiplications of filters and of unfolded norms are part of E1,
    those of norms of E3 as well. In E2 an activation of several levels that is multiplied is priced as in E3.

    Args:
        metrics: of a run.
        split: val or test.
        profile: with prices of movement.
        config: of the run.

    Raises:
        UserError: the profile has no such prices, or the run was counted before what they are of.

    Source: arXiv 2409.08290 for the terms of E2 and E3 and for s*; theirs are estimates, ours exact counts. They leave
        out sums, comparisons and the movement of activations in E2, which are on both sides here.
    """
    if not prices_movement(profile):
        raise UserError(
            f"the energy profile {profile.name} has no prices of data movement; type energy=h45_fp32_onchip, or "
            f"energy=h45_fp32_offchip"
        )
    if f"{split}/synops_effective_once" not in metrics:
        raise UserError(
            "this run was counted before sums of streams, comparisons and operations of one step were, so it has E1 "
            "alone; snn-exp eval RUN counts it anew on the test set"
        )
    n = {key.removeprefix(f"{split}/synops_"): count for key, count in metrics.items() if "/synops_" in key}
    bits = Bits.of(config, profile.word_bits)
    neuron = schemas.load()["neuron"][str(config.neuron["name"])].traits
    signs = neuron["emits"] == "signs" and bits.weight == 1

    def mac(of: int) -> float:
        if signs and of == 1:
            return profile.xnor_fj / 1000
        return profile.ac_pj + (profile.mac_pj - profile.ac_pj) * (of - 1) / (bits.word - 1)

    compute = {part: pj for part, pj in energy_pj(metrics, split, profile).items() if part != "memory"}
    moved = dict(compute)
    if neuron["emits"] == "levels" and not neuron["in_slots"]:
        moved["weights"] -= (n["mac"] - n["mac_ends"]) * (profile.mac_pj - mac(bits.step))
    ends = n["ac_ends"] + n["mac_ends"]
    hidden = n["ac"] + n["mac"] - ends
    streams = profile.ac_pj + 2 * bits.word * profile.bit_pj  # of a sum: the addition, and its value read and written
    moved |= {
        "sums and streams": streams * n["sums"],
        "comparisons": profile.compare_pj * n["comparisons"],
        "weights moved": profile.weight_bit_pj * (hidden * bits.weight + ends * bits.end),
        "states moved": 2 * bits.word * profile.bit_pj * n["neuron_updates"],
        "activations moved": bits.step * profile.bit_pj * n["activations"] * config.num_steps,
    }

    def quantized(all_of_them: float, of_the_ends: float) -> dict[str, float]:
        inside = all_of_them - of_the_ends
        return {
            "weights": inside * mac(bits.activation) + of_the_ends * profile.mac_pj,
            "norms": profile.mac_pj * n["norm_mac"] / config.num_steps,
            "sums and streams": streams * n["sums"] / config.num_steps,
            "comparisons": profile.compare_pj * n["activations"] * (n["comparisons"] and bits.activation),
            "weights moved": profile.weight_bit_pj * (inside * bits.weight + of_the_ends * bits.end),
            "activations moved": bits.activation * profile.bit_pj * n["activations"],
        }

    dense = quantized(n["dense_once"], n["dense_once_ends"])
    if neuron["emits"] == "real":  # rectified by one comparison
        dense["comparisons"] = profile.compare_pj * n["activations"]
    zeros = quantized(n["effective_once"], n["effective_once_ends"]) | {"comparisons": dense["comparisons"]}
    rate = metrics.get(f"{split}/firing_rate", 0.0)
    by_spikes = (n["ac"] - n["ac_ends"] - n["xnor"]) * (profile.ac_pj + profile.weight_bit_pj * bits.weight)
    rest = sum(moved.values()) - by_spikes
    break_even = max(0.0, rate * (sum(dense.values()) - rest) / by_spikes) if by_spikes > 0 else None
    return ThreeEnergies(compute, moved, dense, zeros, bits, rate, break_even)


def with_movement(
    metrics: Mapping[str, float], split: str, profile: EnergyConfig, config: Mapping[str, Any]
) -> dict[str, float]:
    """Add E2, E3 and what follows from them to the metrics, where the profile prices them and the run has the counts.

    test/energy_moved_pj is E2, test/energy_quantized_pj E3 (dense), test/energy_quantized_zeros_pj E3 with credit for
    zeros, test/moved_ratio and test/moved_ratio_zeros E2 over each, test/break_even_rate the firing rate s*.

    Args:
        metrics: of a run.
        split: val or test.
        profile: as in `three_energies`.
        config: of the run, as stored.
    """
    if not prices_movement(profile) or f"{split}/synops_effective_once" not in metrics:
        return dict(metrics)
    found = three_energies(metrics, split, profile, resolve(config))
    added = {
        "energy_moved_pj": sum(found.moved.values()),
        "energy_quantized_pj": sum(found.quantized.values()),
        "energy_quantized_zeros_pj": sum(found.with_zeros.values()),
        "moved_ratio": found.ratio,
        "moved_ratio_zeros": found.ratio_with_zeros,
        **({} if found.break_even is None else {"break_even_rate": found.break_even}),
    }
    return {**metrics, **{f"{split}/{name}": value for name, value in added.items()}}


def movement_prices(profile: EnergyConfig) -> str:
    """Describe a profile's prices of data movement.

    Example:
        >>> movement_prices(EnergyConfig(weight_bit_pj=1.5, bit_pj=0.2, compare_pj=0.9))
        'a bit of a weight 1.5 pJ, of anything else 0.2 pJ, a comparison 0.9 pJ, words of 32 bits, nothing reused'
    """
    return (
        f"a bit of a weight {profile.weight_bit_pj:g} pJ, of anything else {profile.bit_pj:g} pJ, a comparison "
        f"{profile.compare_pj:g} pJ, words of {profile.word_bits} bits, nothing reused"
    )
