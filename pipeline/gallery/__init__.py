"""Who is known, and how near a tracklet comes to them."""
