"""What a run says over HTTP."""
