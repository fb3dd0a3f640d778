"""How right the whole machine is, where somebody knows the truth."""
