"""The settings that every part of Headrace shares, as models; each stage adds a model of its own for its section."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from headrace.config.units import Duration, Size
from headrace.resources import state_folder


def default_state() -> Path:
    """Folder for what must last on this machine: `$HEADRACE_STATE`, else the XDG state folder."""
    return state_folder()


class Section(BaseModel):
    """One table of `headrace.toml`: unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


SECRET_PROPERTIES = {
    "sasl.password": "sasl_password",
    "sasl.oauthbearer.client.secret": "oauth_client_secret",
    "ssl.key.password": "ssl_key_password",
    "ssl.keystore.password": "ssl_keystore_password",
}
"""librdkafka's secret properties, and the fields that hold them here."""


class KafkaSettings(Section):
    """How to reach Kafka, and what our topics are called."""

    bootstrap: str | None = Field(None, description="host:port list; without it the embedded broker is used.")
    prefix: str = Field(
        "headrace.", description="Begins the name of every topic and group.", pattern=r"^[a-zA-Z0-9._-]{0,100}$"
    )
    partitions: int = Field(6, description="Partitions of a topic that is created.", ge=1)
    replication: int = Field(1, description="Replicas of a topic that is created.", ge=1)
    properties: dict[str, str] = Field({}, description="Any librdkafka property but secrets: TLS, SASL, time-outs.")
    sasl_password: SecretStr | None = Field(None, description="librdkafka's sasl.password.")
    oauth_client_secret: SecretStr | None = Field(None, description="librdkafka's sasl.oauthbearer.client.secret.")
    ssl_key_password: SecretStr | None = Field(None, description="librdkafka's ssl.key.password.")
    ssl_keystore_password: SecretStr | None = Field(None, description="librdkafka's ssl.keystore.password.")

    registry: str | None = Field(
        None, description="URL of a schema registry; with it, events are written in Confluent framing.",
        pattern=r"^(https?|mock)://[^@\s]+$",
    )  # fmt: skip
    registry_login: SecretStr | None = Field(None, description="user:password for the schema registry.")
    registry_properties: dict[str, str] = Field(
        {}, description="Properties of confluent-kafka's schema registry client, such as ssl.ca.location."
    )

    @field_validator("properties", "registry_properties")
    @classmethod
    def _no_secrets(cls, properties: dict[str, str]) -> dict[str, str]:
        for name in properties:
            if name in SECRET_PROPERTIES:
                raise ValueError(f"{name} is a secret; set kafka.{SECRET_PROPERTIES[name]} or its _file instead")
            if "password" in name or "secret" in name or name.endswith(".pem"):
                raise ValueError(f"{name} would hold a secret; use its .location form, which names a file")
        return properties

    def client_properties(self) -> dict[str, str]:
        """The librdkafka properties to pass through, secrets included. Never log this."""
        secrets = {name: getattr(self, field) for name, field in SECRET_PROPERTIES.items()}
        return self.properties | {name: value.get_secret_value() for name, value in secrets.items() if value}


class BrokerSettings(Section):
    """The embedded Kafka, for a machine that has no other."""

    port: int = Field(19092, description="TCP port on 127.0.0.1.", ge=1, le=65535)
    heap: Size = Field(256 * 1024 * 1024, description="Largest Java heap.", ge=64 * 1024 * 1024)
    reserve: Size = Field(512 * 1024 * 1024, description="With less free on its disk, sources wait for room.", ge=0)


class TopicSettings(Section):
    """What an operator may want otherwise of one topic, such as `[topics.chunks]`."""

    retention: Duration | None = Field(None, description="How long messages are kept; default: the catalogue's.")
    retention_size: Size | None = Field(None, description="Bytes kept in each partition; default: the catalogue's.")


class DatasetsSettings(Section):
    """Datasets of your own, beside those that are shipped: see the how-to "add a CSV feed"."""

    folder: Path | None = Field(None, description="Folder of declarations, one NAME.toml a dataset.")


class LogSettings(Section):
    """What services write to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least severe level written.")
    format: Literal["auto", "console", "json"] = Field(
        "auto", description="console for people, json for machines, auto: console on a terminal, else json."
    )


class UpSettings(Section):
    """What `headrace up` runs on this machine."""

    services: list[str] = Field(
        [],
        description='Sections to run, such as "directory_source" or "assembler.site_b"; one name twice is two copies.',
    )
    backoff_first: Duration = Field(
        timedelta(seconds=1), description="Wait before a service that died is started again."
    )
    backoff_longest: Duration = Field(
        timedelta(seconds=30), description="The wait doubles with each death up to this; a minute of life resets it."
    )
    stop_within: Duration = Field(
        timedelta(seconds=30), description="Time to drain after SIGTERM; what still runs then is killed."
    )


class ServicesSettings(Section):
    """Where the services run that commands with a job need."""

    external: bool = Field(
        False,
        description="Whether the services run elsewhere; else such a command runs its own copies while its job lasts.",
    )


class ServiceSettings(Section):
    """What every service has: where its metrics and its health are served."""

    metrics_port: Annotated[int, Field(ge=0, le=65535)] | Literal["auto"] = Field(
        "auto", description='Port of /metrics, /healthz, /readyz; "auto" takes a free one and logs it, 0 turns it off.'
    )
    metrics_host: str = Field("127.0.0.1", description="Address that /metrics, /healthz and /readyz listen on.")


class StageSettings(ServiceSettings):
    """What every service has that reads topics: how it takes part in its consumer group."""

    sink: str = Field(
        description="Names the destination; copies that fill the same one share the name, and with it the work.",
        pattern=r"^[a-zA-Z0-9._-]{1,100}$",
    )
    session_timeout: Duration = Field(
        timedelta(seconds=10),
        description="A copy that Kafka has not heard of for this long loses its partitions to the others.",
        ge=timedelta(seconds=1),
    )
    slot: int | None = Field(
        None, description="This copy's number in its group, if given from outside; else the lowest free one here.", ge=0
    )
    copies: int = Field(
        1,
        description="Members of the group in this process, each in a thread. Processes bring more; see `headrace up`.",
        ge=1,
        le=64,
    )


class Settings(Section):
    """What is set for all services of this process."""

    kafka: KafkaSettings = KafkaSettings()
    broker: BrokerSettings = BrokerSettings()
    log: LogSettings = LogSettings()
    up: UpSettings = UpSettings()
    services: ServicesSettings = ServicesSettings()
    datasets: DatasetsSettings = DatasetsSettings()
    topics: dict[str, TopicSettings] = Field({}, description="Per topic: how long and how much of it is kept.")
    state: Path = Field(default_factory=default_state, description="Folder for what must last on this machine.")
