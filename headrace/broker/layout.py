"""What lies where in the folder of a broker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """The folder of one broker.

    Parameters:
        root: the folder; everything below it belongs to the broker.
    """

    root: Path

    @property
    def data(self) -> Path:
        """The topics: the only part that cannot be written again."""
        return self.root / "data"

    @property
    def stopped_cleanly(self) -> bool:
        """Kafka left its mark of an orderly stop, which it removes when it starts."""
        return (self.data / ".kafka_cleanshutdown").exists()

    @property
    def unfinished_data(self) -> Path:
        """Data that is being formatted."""
        return self.root / "data.unfinished"

    @property
    def server_properties(self) -> Path:
        """Kafka's settings, written at every start; the path also marks our process among others."""
        return self.root / "server.properties"

    @property
    def format_properties(self) -> Path:
        """Kafka's settings while the data is being formatted."""
        return self.root / "format.properties"

    @property
    def log_properties(self) -> Path:
        """The logger's settings, written at every start."""
        return self.root / "log4j2.properties"

    @property
    def log(self) -> Path:
        """What the broker logs."""
        return self.root / "logs" / "kafka.log"

    @property
    def console(self) -> Path:
        """What the Java virtual machine prints, such as why it could not start."""
        return self.root / "logs" / "console.log"

    @property
    def record(self) -> Path:
        """Which process runs."""
        return self.root / "broker.json"

    @property
    def lock(self) -> Path:
        """Held while somebody starts or stops the broker."""
        return self.root / "broker.lock"
