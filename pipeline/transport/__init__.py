"""The link that carries tracklets from perception to identity."""
