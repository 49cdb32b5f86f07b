"""Images and tokens from folders, lists, arrays and well-known data sets."""
