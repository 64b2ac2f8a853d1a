"""Experiments on spiking neural networks: PSP normalization, single-step S2NN, and their rivals."""
