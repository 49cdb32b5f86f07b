"""Token stores on disk."""
