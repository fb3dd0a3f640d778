"""SynthGait: walkers we generate ourselves, so that data and weights may be shipped.

A person is a `Body` and a `Style`, drawn independently; `walk` turns a style into a `Motion`, a
body takes it on as vertices in metres, a camera sees them, and the noise model spoils the mask as
a segmenter would. Axes everywhere: x forward, y to the person's left, z up, right-handed, metres.
"""
