"""Configs, as a package so that an installed snn_exp finds them."""
