"""Linear probes: how well a linear classifier tells classes by the features of each layer."""
