"""Read overrides, resolve configs, compute run identities. No torch."""
