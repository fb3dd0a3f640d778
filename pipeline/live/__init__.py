"""Live runs: `run.py` joins the halves, `perceiving.py` (cameras) and `identity.py` (people)."""
