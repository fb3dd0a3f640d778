"""Video of people: clips around those who are in view, and live pictures for an RTSP server."""
