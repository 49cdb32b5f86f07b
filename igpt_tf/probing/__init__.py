"""What a model's features are worth to a linear classifier."""
