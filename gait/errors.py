"""What can go wrong in `gait`.

GaitError
├── SilhouetteError   an array that cannot be silhouettes
├── CheckpointError   a weights file that is missing, damaged, hostile or of another network
├── ConfigError       a configuration that cannot be used; the command line exits with 2
├── DataError         a data set or embedding input that cannot be read
├── TrainingError     a training run that cannot go on
├── RuntimeUnavailable  this machine cannot run a network that way
└── RuntimeFailed     a network that was running has failed
    ├── OutOfMemory   fewer inputs at once may fit
    └── DeviceLost    the device does not answer any more
"""


class GaitError(Exception):
    """Base of every error `gait` raises on purpose."""


class SilhouetteError(GaitError, ValueError):
    """An array that cannot be silhouettes: wrong shape, dtype or range."""


class CheckpointError(GaitError):
    """A weights file that is missing, damaged, hostile or of another network."""


class ConfigError(GaitError):
    """A configuration that cannot be used: unknown key, wrong type, impossible value."""


class DataError(GaitError):
    """Input data that cannot be read as silhouettes."""


class TrainingError(GaitError):
    """A training run that cannot go on: the loss is no number, or its log cannot be written."""


class RuntimeUnavailable(GaitError):
    """This machine cannot run the network that way; the message says what is missing."""


class RuntimeFailed(GaitError):
    """A network that was running has failed; the same call may work elsewhere."""


class OutOfMemory(RuntimeFailed):
    """The device has too little memory for so many inputs at once; fewer may fit."""


class DeviceLost(RuntimeFailed):
    """The device does not answer any more; nothing runs on it until the process is new."""
