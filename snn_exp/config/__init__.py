"""From what is typed to a resolved config and its identity. No torch."""
