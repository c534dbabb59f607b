"""What can go wrong, in words for the person who runs the training."""


class TrainingError(Exception):
    """Anything that stops a training run; its text says what to change."""


class SettingsError(TrainingError):
    """A TOML file of the use case is incomplete or contradicts another one."""


class DataError(TrainingError):
    """A data file is missing, has the wrong columns, or holds values of the wrong type."""


class ExportError(TrainingError):
    """The ONNX graph does not give the scores that the trained model gives."""
