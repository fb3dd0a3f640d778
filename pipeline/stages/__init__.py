"""The steps from frames to tracklets: one protocol a verb, one vendor a file."""
