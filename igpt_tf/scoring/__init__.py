"""How well a model predicts images."""
