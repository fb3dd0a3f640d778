"""Data sets of silhouettes: prepare, check, pack, read, sample and augment."""
