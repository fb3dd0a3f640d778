"""The TrackletGait network: sizes, layers, heads, and the files that hold its weights."""
