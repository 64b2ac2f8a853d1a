"""Tests for parts of one's own: the contracts that the built-in parts keep, by one line of pytest.

    from snn_exp.testing import contract

    test_contract = contract("neuron", "leakless")

Needs pytest.
"""

from snn_exp.testing.whole import checks_of, contract

__all__ = ["checks_of", "contract"]
