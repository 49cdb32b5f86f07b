"""Images as small maps of features, and codebooks of these."""
