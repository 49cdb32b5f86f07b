"""Images and tokens on disk, and the batches that training reads; knows nothing of the model."""
