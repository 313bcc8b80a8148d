"""From device-hours to money."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.config.models import ModelConfig, RunConfig


@dataclass(frozen=True)
class Price:
    """What an hour of one device costs.

    Attributes:
        per_device_hour: The price; None when the configuration names none.
        currency: Its currency, as it is printed.
    """

    per_device_hour: float | None = None
    currency: str = "USD"

    @classmethod
    def of(cls, config: RunConfig) -> Price:
        """Return the price that a configuration names."""
        return cls(config.price_per_device_hour, config.currency)

    def amount(self, device_hours: float) -> float | None:
        """Return the money for some device-hours, or None without a price."""
        return None if self.per_device_hour is None else device_hours * self.per_device_hour


def devices_per_worker(model: ModelConfig) -> int:
    """Return how many devices one worker process occupies."""
    return model.vllm.tensor_parallel_size if model.engine == "vllm" else 1
