"""Weights on disk: OpenAI's checkpoints and preset folders."""
