"""Boxes over time: multi-object trackers on numpy and scipy that never see an image."""
