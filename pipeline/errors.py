"""What can go wrong in `pipeline`.

ConfigError        is gait's: a configuration that cannot be used; the command line exits with 2
PipelineError
├── SourceError    a video or folder that cannot be read
├── ModelError     a detector, segmenter or appearance model that cannot be loaded or run
├── GalleryError   a gallery that cannot be opened or written
├── PrivacyError   a sealed blob, audit log or receipt that is not as it was written
├── LinkError      a link into which nothing more can be sent
└── OutputError    a results folder that cannot be written
"""

from gait.errors import ConfigError as ConfigError


class PipelineError(Exception):
    """Base of every error `pipeline` raises on purpose."""


class SourceError(PipelineError):
    """A video or folder that cannot be read, or cannot be read to its end."""


class ModelError(PipelineError):
    """A detector, segmenter or appearance model that cannot be loaded or run."""


class GalleryError(PipelineError):
    """A gallery that cannot be opened or written, or was made by another model."""


class PrivacyError(PipelineError):
    """A sealed blob, audit log or receipt that was changed, or cannot be written."""


class LinkError(PipelineError):
    """A link between perception and identity into which nothing more can be sent."""


class OutputError(PipelineError):
    """A results folder that cannot be written, or has no room left."""
