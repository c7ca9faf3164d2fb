"""Pruning: one file a paper; each gives scores to channels, and ``compactvision.surgery`` removes them."""
