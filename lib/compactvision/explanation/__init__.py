"""Looking into a network: which pixels a class score comes from, and what single units do."""
