"""Parts of a network, and networks."""
