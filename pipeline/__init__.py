"""Cameras and files in, sightings out: the machine around `gait` and `trackers`."""
