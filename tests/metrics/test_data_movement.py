"""Three energies: each term by hand, a network that is its own quantized network, and what old runs say."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from snn_exp.config.compose import compose
from snn_exp.config.experiment import EnergyConfig
from snn_exp.errors import UserError
from snn_exp.metrics.data_movement import Bits, ThreeEnergies, prices_movement, three_energies, with_movement
from snn_exp.metrics.energy import energy_pj
from snn_exp.metrics.operations import COUNTS, SynapticOperations
from snn_exp.reporting.summary import evaluation
from tests.metrics.test_operations import task_of

# hidden layers: 2,000 additions of 4,000 operations a step; ends: 60 multiplications and 40 additions of 200
COUNTED = {
    "ac": 2040.0, "mac": 60.0, "xnor": 0.0, "filter_mac": 8.0, "norm_mac": 12.0, "neuron_updates": 400.0, "dense": 16200.0,
    "ac_ends": 40.0, "mac_ends": 60.0, "dense_once": 4200.0, "dense_once_ends": 200.0, "effective_once": 1100.0,
    "effective_once_ends": 100.0, "sums": 80.0, "comparisons": 400.0, "activations": 100.0,
}  # fmt: skip
PRICES = EnergyConfig(
    name="mine", mac_pj=5.0, ac_pj=1.0, xnor_fj=20.0, word_bits=9, weight_bit_pj=0.5, bit_pj=0.25, compare_pj=0.125
)
LIF = compose(["neuron=lif", "weight_quant=int", "weight_quant.bits=4"])


def metrics_of(counts: dict[str, float], rate: float = 0.125) -> dict[str, float]:
    return {f"test/synops_{name}": count for name, count in counts.items()} | {"test/firing_rate": rate}


def priced(*, profile: EnergyConfig = PRICES, **changed: float) -> ThreeEnergies:
    return three_energies(metrics_of(COUNTED | changed), "test", profile, LIF)


def test_each_term_of_e2_is_a_count_times_a_price() -> None:
    found = priced()
    assert found.compute == {"weights": 5 * 60 + 2040, "filters": 5 * 8, "norms": 5 * 12, "neurons": 5 * 400}
    assert found.moved == found.compute | {
        "sums and streams": 80 * (1 + 2 * 9 * 0.25),
        "comparisons": 400 * 0.125,
        "weights moved": 0.5 * (2000 * 4 + 100 * 9),
        "states moved": 400 * 2 * 9 * 0.25,
        "activations moved": 100 * 4 * 1 * 0.25,  # one bit at each of four steps
    }


def test_each_term_of_e3_is_of_one_step_and_of_equal_bits() -> None:
    """Four steps of a spike are 0 to 4: three bits, of which a multiplication costs 1 + 4 * 2 / 8 pJ."""
    found = priced()
    assert found.bits == Bits(activation=3, step=1, weight=4, end=9, word=9)
    shared = {"norms": 5 * 12 / 4, "sums and streams": 20 * (1 + 2 * 9 * 0.25), "comparisons": 100 * 3 * 0.125,
              "activations moved": 100 * 3 * 0.25}  # fmt: skip
    assert found.quantized == shared | {"weights": 4000 * 2 + 200 * 5, "weights moved": 0.5 * (4000 * 4 + 200 * 9)}
    assert found.with_zeros == shared | {"weights": 1000 * 2 + 100 * 5, "weights moved": 0.5 * (1000 * 4 + 100 * 9)}
    assert found.ratio == pytest.approx(sum(found.moved.values()) / sum(found.quantized.values()))


def test_below_the_break_even_rate_the_spiking_network_wins_and_above_it_loses() -> None:
    found = priced()
    assert found.break_even is not None and found.rate == 0.125
    for factor, wins in ((0.999, True), (1.001, False)):
        scale = factor * found.break_even / found.rate
        assert (priced(ac=40 + 2000 * scale).ratio < 1) is wins


def test_where_only_weights_are_moved_break_even_is_one_over_the_steps() -> None:
    """The published rule for weights of equal bits, arXiv 2409.08290: a step must read each weight less than once in T."""
    weights = dataclasses.replace(PRICES, mac_pj=1e-12, ac_pj=1e-12, bit_pj=0.0, compare_pj=0.0)
    none = dict.fromkeys(
        ("filter_mac", "norm_mac", "neuron_updates", "mac", "mac_ends", "ac_ends", "dense_once_ends"), 0.0
    )
    found = priced(profile=weights, **none, dense_once=4000.0, ac=0.125 * 4 * 4000)
    assert found.break_even == pytest.approx(1 / 4)


def test_nothing_can_win_where_what_no_spike_decides_costs_more() -> None:
    found = priced(neuron_updates=1e6)
    assert found.break_even == 0 and "none, since E3 is below what no spike decides" in found.text()


@pytest.mark.parametrize(
    ("command", "bits"),
    [
        ("neuron=lif", Bits(3, 1, 32, 32, 32)),
        ("neuron=lif encoding.num_steps=8", Bits(4, 1, 32, 32, 32)),
        ("neuron=s2nn weight_quant=int weight_quant.bits=2", Bits(1, 1, 2, 32, 32)),
        ("neuron=s2nn weight_quant=int weight_quant.ends=true", Bits(1, 1, 4, 4, 32)),
        ("neuron=sign", Bits(1, 1, 1, 32, 32)),
        ("neuron=relu", Bits(32, 32, 32, 32, 32)),
        ("neuron=qrelu neuron.bits=8", Bits(8, 8, 32, 32, 32)),
        ("neuron=mtn neuron.levels=4", Bits(3, 3, 32, 32, 32)),
        ("neuron=ilif neuron.levels=3 encoding.num_steps=2", Bits(3, 2, 32, 32, 32)),
        ("neuron=ternary", Bits(2, 2, 32, 32, 32)),
    ],
)
def test_bits_follow_from_levels_steps_and_weights(command: str, bits: Bits) -> None:
    assert Bits.of(compose(command.split()), 32) == bits


def measured(command: str) -> ThreeEnergies:
    overrides = ["residual=bireal", *command.split()]
    task, x_TBCHW = task_of(*overrides)
    operations = SynapticOperations(task.network.eval())
    with operations.listening(), torch.no_grad():
        task.network(x_TBCHW)
    counts = {name: float(count) for name, count in operations.compute().items()}
    assert counts.keys() == set(COUNTS)
    return three_energies(metrics_of(counts), "test", compose(["energy=h45_fp32_onchip"]).energy, compose(overrides))


@pytest.mark.parametrize(
    "command",
    ["neuron=s2nn", "neuron=s2nn weight_quant=int", "neuron=relu", "neuron=qrelu neuron.bits=1", "neuron=qrelu neuron.bits=4",
     "neuron=sign", "neuron=sign weight_quant=none", "neuron=relu weight_quant=int weight_quant.ends=true"],
)  # fmt: skip
def test_at_one_step_a_network_is_its_own_quantized_network(command: str) -> None:
    """So with credit for zeros the ratio is 1: what a spike of one step saves are its zeros."""
    found = measured(command)
    assert found.ratio_with_zeros == pytest.approx(1)
    assert found.ratio < 0.9, "zeros, and the padding of the dense count"


def test_over_several_steps_or_in_slots_it_is_not() -> None:
    assert measured("neuron=lif neuron.v_threshold=0.1").ratio_with_zeros > 1.2
    assert measured("neuron=mtn").ratio_with_zeros > 1.2


def test_reports_and_claims_have_the_energies_where_they_can_be_priced() -> None:
    metrics = metrics_of(COUNTED)
    found, expected = with_movement(metrics, "test", PRICES, LIF.to_plain()), priced()
    assert found["test/energy_moved_pj"] == sum(expected.moved.values())
    assert found["test/moved_ratio"] == found["test/energy_moved_pj"] / found["test/energy_quantized_pj"]
    assert found["test/moved_ratio_zeros"] == found["test/energy_moved_pj"] / found["test/energy_quantized_zeros_pj"]
    assert found["test/break_even_rate"] == expected.break_even
    assert with_movement(metrics, "test", EnergyConfig(), LIF.to_plain()) == metrics
    old = {key: value for key, value in metrics.items() if "once" not in key}
    assert with_movement(old, "test", PRICES, LIF.to_plain()) == old
    relu = with_movement(metrics_of(COUNTED | {"ac": 40.0}), "test", PRICES, compose(["neuron=relu"]).to_plain())
    assert "test/moved_ratio" in relu and "test/break_even_rate" not in relu


# --- what is printed -------------------------------------------------------------------------------


def test_a_run_that_was_counted_before_says_that_it_has_e1_alone_and_keeps_it() -> None:
    old = {key: value for key, value in metrics_of(COUNTED).items() if "once" not in key and "sums" not in key}
    with pytest.raises(UserError, match=r"so it has E1 alone; snn-exp eval RUN counts it anew"):
        three_energies(old, "test", PRICES, LIF)
    full = {f"test/synops_{count}_trained": 1.0 for count in ("ac", "xnor", "mac", "filter_mac", "norm_mac")}
    text = evaluation(old | full, PRICES, LIF)
    assert "  three        this run was counted before" in text and "beside it" not in text
    assert f"energy       {sum(energy_pj(old, 'test', PRICES).values()) / 1000:.1f} nJ" in text


def test_a_profile_without_prices_of_movement_is_refused_and_prints_nothing() -> None:
    assert not prices_movement(EnergyConfig())
    with pytest.raises(UserError, match=r"h45_fp32 has no prices of data movement; type energy=h45_fp32_onchip"):
        three_energies(metrics_of(COUNTED), "test", EnergyConfig(), LIF)
    full = {f"test/synops_{count}_trained": 1.0 for count in ("ac", "xnor", "mac", "filter_mac", "norm_mac")}
    text = evaluation(metrics_of(COUNTED) | full, EnergyConfig(), LIF)
    assert "beside it 80 sums of streams and 400 comparisons" in text and "three" not in text


def test_the_summary_has_the_energies_the_ratio_and_every_price() -> None:
    full = {f"test/synops_{count}_trained": 1.0 for count in ("ac", "xnor", "mac", "filter_mac", "norm_mac")}
    lines = evaluation(metrics_of(COUNTED) | full, PRICES, LIF).splitlines()
    found = priced()
    assert f"E1 4.4 nJ compute; E2 {sum(found.moved.values()) / 1000:.1f} nJ with data moved (weights " in lines[-3]
    assert "nJ of a network of 3-bit activations, " in lines[-3]
    assert lines[-2].strip().startswith(f"E2/E3 {found.ratio:.3g}, with credit for zeros {found.ratio_with_zeros:.3g}")
    assert lines[-2].endswith(f"break-even firing rate {found.break_even:.3f}, its own 0.125")
    assert lines[-1].strip() == (
        "a bit of a weight 0.5 pJ, of anything else 0.25 pJ, a comparison 0.125 pJ, words of 9 bits, nothing reused"
    )
