"""Files, records, locks and digests."""
