"""Profiles of other devices in the checkout: what its networks take there."""

from joslim.budgets import quantity
from joslim.costs.latency import Latency
from joslim.costs.profile import Profile, fitted
from joslim.errors import BudgetError, CheckpointError, ConfigError
from joslim.supernet.network import SlimmableNetwork
from joslim.widths import Widths
from pipelines.settings import paths


class DeviceLatency:
    """The latency on a profile's device: measured, where the profile has the widths, else fitted.

    Attributes:
        column: Its name in tables.
        predicted: The fit, with its error.
        profile: What was measured there.
    """

    def __init__(self, network: SlimmableNetwork, profile: Profile) -> None:
        self.column = f"latency_ms_{profile.name}"
        self.predicted: Latency = fitted(network, profile)
        self.profile = profile

    @property
    def summary(self) -> str:
        """The device, and how sure the fit is."""
        table = self.predicted.table
        return (
            f"{table.device}; {len(self.profile.measured)} configurations measured, others "
            f"predicted with a median error of {table.median_error:.1%}"
        )

    def __call__(self, widths: Widths) -> float:
        """Milliseconds for one image."""
        return self.profile.measured.get(widths, round(self.predicted(widths), 4))


def device_latencies(network: SlimmableNetwork) -> list[DeviceLatency]:
    """Of every profile in the checkout.

    Raises:
        ConfigError: If one cannot be read, or is of another network.
    """
    return [device_latency(network, file.stem) for file in sorted(paths.PROFILES.glob("*.json"))]


def device_latency(network: SlimmableNetwork, name: str) -> DeviceLatency:
    """Of the profile called ``name``; errors as of `device_latencies`."""
    file = paths.PROFILES / f"{name}.json"
    try:
        quantity(f"latency@{name}")
    except BudgetError as error:
        raise ConfigError(f"{file}: {error}") from error
    if not file.is_file():
        raise ConfigError(
            f"latency@{name} needs {file}; run on that device: python run.py --profile {name}.json "
            "(in the folder that `joslim export --slimmable` has written)"
        )
    try:
        return DeviceLatency(network, Profile.load(file))
    except CheckpointError as error:
        raise ConfigError(f"{file}: {error}") from error
