"""Getting files over HTTP whole or not at all; knows nothing of Image GPT."""
