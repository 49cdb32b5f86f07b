"""Files, records, locks and digests: whole on disk or not at all."""
