"""Training loops around plain Keras `fit`."""
