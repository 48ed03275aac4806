"""What latencies were measured on, and which of them are in doubt.

Stage ``front`` writes it beside its metrics: of ``latency_ms`` in ``latency_device``,
``latency_date`` and ``latency_doubts``; of ``latency_ms_pi5`` in ``latency_device_pi5``, and so on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

COLUMN, DEVICE, DATE = "latency_ms", "latency_device", "latency_date"
DOUBT, DOUBTS = "latency_doubt", "latency_doubts"


@dataclass(frozen=True)
class MeasuredOn:
    """How the latencies of a column came about.

    Attributes:
        column: Theirs, ``latency_ms`` or ``latency_ms_NAME``.
        device: Processor, runtime, threads.
        date: In UTC, as ``2026-01-31``; empty if it is not known.
        doubts: Ids of sub-networks that may be faster, by the reason.
    """

    column: str
    device: str
    date: str
    doubts: Mapping[str, Sequence[str]]

    @property
    def name(self) -> str:
        """Of the quantity: ``latency`` or ``latency@NAME``."""
        device = self.column.removeprefix(COLUMN + "_")
        return "latency" if device == COLUMN else f"latency@{device}"

    @property
    def metrics(self) -> dict[str, Any]:
        """As stage ``front`` writes it."""
        return {
            self._key(DEVICE): self.device,
            self._key(DATE): self.date,
            self._key(DOUBTS): {reason: list(ids) for reason, ids in self.doubts.items()},
        }

    def tags(self, identity: str) -> dict[str, str]:
        """What the registry keeps of the sub-network with that id."""
        doubts = [reason for reason, ids in self.doubts.items() if identity in ids]
        known = {DEVICE: self.device, DATE: self.date, DOUBT: "; ".join(doubts)}
        return {self._key(name): text for name, text in known.items() if text}

    def _key(self, name: str) -> str:
        return name + self.column.removeprefix(COLUMN)


def measured_on(metrics: Mapping[str, Any]) -> list[MeasuredOn]:
    """What stage ``front`` wrote into its metrics, of each column of latencies."""
    names = [key.removeprefix(DEVICE) for key in metrics if key.startswith(DEVICE)]
    return [
        MeasuredOn(COLUMN + n, metrics[DEVICE + n], metrics[DATE + n], metrics[DOUBTS + n])
        for n in names
    ]
