"""What can go wrong in `gait`.

GaitError
├── SilhouetteError   an array that cannot be silhouettes
├── CheckpointError   a weights file that is missing, damaged, hostile or of another network
└── DataError         a data set or embedding input that cannot be read
"""


class GaitError(Exception):
    """Base of every error `gait` raises on purpose."""


class SilhouetteError(GaitError, ValueError):
    """An array that cannot be silhouettes: wrong shape, dtype or range."""


class CheckpointError(GaitError):
    """A weights file that is missing, damaged, hostile or of another network."""


class DataError(GaitError):
    """Input data that cannot be read as silhouettes."""
