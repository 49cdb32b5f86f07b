"""Weights on disk: OpenAI's checkpoints, Hugging Face's folders and preset folders."""
