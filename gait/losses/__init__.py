"""What training minimises: triplets with hardness exclusion, cross entropy, and both over ranks."""
