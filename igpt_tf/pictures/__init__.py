"""Pictures as arrays, and the palettes that turn them into tokens."""
