"""The name that neurons, norms and layers share for the shape of a sample's features."""

FeatureShape = tuple[int, ...]  # (C, ...) of one sample at one step
