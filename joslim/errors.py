"""The errors that Joslim raises on purpose. Every one is a `JoslimError`."""


class JoslimError(Exception):
    """Base class of all errors raised on purpose by this project."""


class WidthError(JoslimError, ValueError):
    """A width configuration that does not fit its width space."""


class BudgetError(JoslimError, ValueError):
    """A budget that no sub-network meets, or that cannot be understood."""


class TracingError(JoslimError, ValueError):
    """A network whose channel groups cannot be found."""


class NetworkError(JoslimError, ValueError):
    """A network name that cannot be turned into a module."""


class DataError(JoslimError, ValueError):
    """Data that is missing, damaged or of an unexpected shape."""


class ConfigError(JoslimError, ValueError):
    """A setting that is not allowed."""


class CheckpointError(JoslimError, RuntimeError):
    """A checkpoint or saved network that cannot be read."""


class DivergenceError(JoslimError, ArithmeticError):
    """A training whose loss is no longer a finite number."""


class ExportError(JoslimError, RuntimeError):
    """A model that cannot be written in the wanted format."""
