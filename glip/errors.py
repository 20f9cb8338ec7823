"""What can go wrong, as a tree. Every message says what was expected, what came and what to do.

::

    GlipError
    ├── ConfigError      (ValueError)  a setting that is unknown or impossible
    ├── ShapeError       (ValueError)  a tensor or box of the wrong shape
    ├── PromptError      (ValueError)  words that cannot be grounded
    ├── ImageError       (ValueError)  something that is not a readable picture
    ├── DataError        (ValueError)  an annotation file that breaks its format
    ├── CheckpointError  (ValueError)  weights that do not fit the network
    └── FileError        (OSError)     a path that is missing, or would be overwritten
"""


class GlipError(Exception):
    """Base of every error that the library raises on purpose."""


class ConfigError(GlipError, ValueError):
    """A setting is unknown, or its value is impossible."""


class ShapeError(GlipError, ValueError):
    """A tensor has another shape than its contract says."""


class PromptError(GlipError, ValueError):
    """The words cannot be turned into a prompt."""


class ImageError(GlipError, ValueError):
    """The input is not a picture that can be read."""


class DataError(GlipError, ValueError):
    """An annotation file breaks its format."""


class CheckpointError(GlipError, ValueError):
    """A weight file does not fit the network."""


class FileError(GlipError, OSError):
    """A path does not exist, or exists and must not be overwritten."""
