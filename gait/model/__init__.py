"""The TrackletGait network and its checkpoints."""
