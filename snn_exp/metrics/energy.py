"""Energy of counted operations, at the prices of a profile. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from snn_exp.config.experiment import EnergyConfig

DEFAULT_PROFILE = EnergyConfig()


def multiplications(metrics: Mapping[str, float], split: str, form: str = "") -> dict[str, float]:
    """Return the MACs per sample by part of the network; an update of a neuron's state counts as one.

    Args:
        metrics: of a run, see `operations.SynapticOperations`.
        split: val or test.
        form: "" is the inference form, "_trained" the network as it was trained.
    """
    synops = f"{split}/synops"
    return {
        "weights": metrics[f"{synops}_mac{form}"],
        "filters": metrics[f"{synops}_filter_mac{form}"],
        "norms": metrics[f"{synops}_norm_mac{form}"],
        "neurons": metrics[f"{synops}_neuron_updates"],
    }


def energy_pj(metrics: Mapping[str, float], split: str, profile: EnergyConfig, form: str = "") -> dict[str, float]:
    """Compute the energy per sample by part of the network and of its memory traffic, pJ.

    Equation:
        each part   mac_pj mac;  weights: + ac_pj (ac - xnor) + xnor_fj xnor / 1000
        memory      (weight_pj + 2 state_pj) (mac + ac - xnor + xnor / 32)  of the weights
                    + 2 state_pj mac  of all other parts

    Every effective operation of the weights reads its weight, and reads and writes an accumulator; of signs and binary
    weights, 32 share a word. Every other multiplication reads and writes the word that it acts on. Words have 32 bits.
    Nothing is reused: a dataflow that keeps a weight or an accumulator in a register for r operations pays 1 / r of it,
    and dense inputs let it do so more often than sparse spikes. An input is held while all that read it are served, so
    neither a spike's bit nor a real value's word is paid; nor are addresses.

    Args:
        metrics: as in `multiplications`.
        split: as in `multiplications`.
        profile: the cost of an operation and of a word of memory; compute only where memory costs 0.
        form: as in `multiplications`.

    Source: the prices are the profile's; the model of memory is ours, the simplest that the stored counts can price.
        A closer one finds that a rate-coded network of 5 steps needs a firing rate below about 6 % to beat an equally
        accurate quantized network (arXiv 2409.08290).
    """
    macs = multiplications(metrics, split, form)
    ac, xnor = metrics[f"{split}/synops_ac{form}"], metrics[f"{split}/synops_xnor{form}"]
    energy = {part: profile.mac_pj * count for part, count in macs.items()}
    energy["weights"] += profile.ac_pj * (ac - xnor) + profile.xnor_fj / 1000 * xnor
    weights = macs.pop("weights") + ac - xnor + xnor / 32
    energy["memory"] = profile.weight_pj * weights + 2 * profile.state_pj * (weights + sum(macs.values()))
    return energy


def total_pj(metrics: Mapping[str, float], split: str, profile: EnergyConfig, form: str = "") -> float:
    """Return the energy per sample of the whole network, pJ; the arguments are those of `energy_pj`."""
    return sum(energy_pj(metrics, split, profile, form).values())


def with_energy(metrics: Mapping[str, float], profile: EnergyConfig, split: str = "test") -> dict[str, float]:
    """Add `test/energy_pj` and `test/energy_dense_pj` to the metrics where the operations are counted on the test set.

    Both are of one sample in the inference form; the dense one charges every operation of the weights, zeros and
    padding included, as a multiplication.

    Args:
        metrics: as in `multiplications`.
        profile: as in `energy_pj`.
        split: val where the energies of the validation set are asked for, which are then named after it.
    """
    if f"{split}/synops_ac" not in metrics:
        return dict(metrics)
    of = f"{split}/synops"
    dense = {f"{of}_mac": metrics[f"{of}_dense"], f"{of}_ac": 0.0, f"{of}_xnor": 0.0}
    return {
        **metrics,
        f"{split}/energy_pj": total_pj(metrics, split, profile),
        f"{split}/energy_dense_pj": total_pj({**metrics, **dense}, split, profile),
    }


def price_list(profile: EnergyConfig) -> str:
    """Describe the constants of a profile, and what they leave out.

    Example:
        >>> price_list(EnergyConfig())
        'h45_fp32: MAC 4.6 pJ, AC 0.9 pJ, XNOR 20 fJ; compute only, no memory traffic'
    """
    memory = (
        f"weight read {profile.weight_pj:g} pJ, accumulator or state read or written {profile.state_pj:g} pJ, "
        f"32 bits each, nothing reused"
        if profile.weight_pj or profile.state_pj
        else "compute only, no memory traffic"
    )
    return f"{profile.name}: MAC {profile.mac_pj:g} pJ, AC {profile.ac_pj:g} pJ, XNOR {profile.xnor_fj:g} fJ; {memory}"


def counted_split(metrics: Sequence[Mapping[str, float]]) -> str | None:
    """Return the split on which all runs have counted their operations, test before val."""
    splits = [s for s in ("test", "val") if metrics and all(f"{s}/synops_ac" in m for m in metrics)]
    return splits[0] if splits else None


def joules(pj: float) -> str:
    """Format an energy in nJ, or in pJ where it is small.

    Example:
        >>> joules(12_345.0), joules(12.3)
        ('12.3 nJ', '12.3 pJ')
    """
    return f"{pj / 1000:,.1f} nJ" if pj >= 1000 else f"{pj:.1f} pJ"
