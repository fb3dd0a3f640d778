"""Silhouettes to identities: the science of trackletgait, with no video, boxes or sockets."""
