"""Settings of the bridge."""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field, model_validator

from headrace.config import StageSettings

_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9._-]+")


class OpenmsiBridgeSettings(StageSettings):
    """What the bridge needs to know."""

    topic: str = Field(
        description="Topic that OpenMSIStream writes to, on the same Kafka; its name as it is, without our prefix.",
        pattern=r"^[a-zA-Z0-9._-]{1,249}$",
    )
    source: str = Field(
        "",
        description="Name of the sender on the log; by default openmsi- and the topic.",
        pattern=r"^[^/\x00-\x1f]{1,200}$",
    )
    sink: str = Field(
        "",
        pattern=r"^[a-zA-Z0-9._-]{1,100}$",
        description="Name of this bridge: its copies share the work. By default the topic.",
    )
    dataset: str | None = Field(None, description="Name of the dataset that the files belong to, for `csv_fanout`.")

    @model_validator(mode="before")
    @classmethod
    def _name_after_the_topic(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("topic"), str):
            return values
        named = {"source": f"openmsi-{values['topic']}"[:200], "sink": _NOT_IN_A_NAME.sub("-", values["topic"])[:100]}
        return values | {name: value for name, value in named.items() if not values.get(name)}
