"""What can go wrong, in words for the person who runs the training."""


class TrainingError(Exception):
    """Anything that stops a training run; its text says what to change."""


class SettingsError(TrainingError):
    """A TOML file of the use case is incomplete or contradicts another one."""


class DataError(TrainingError):
    """A data file is missing, has the wrong columns, or holds values of the wrong type."""


class ExportError(TrainingError):
    """The ONNX graph does not give the scores that the trained model gives."""


class StoreError(TrainingError):
    """The feature store's own program is not there, or refused what it was asked."""


class RegisterError(TrainingError):
    """The tracking server cannot be reached, or did not take what it was given."""
