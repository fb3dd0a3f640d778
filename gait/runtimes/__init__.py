"""What networks run on: one adapter for each vendor, one way to call them all."""
