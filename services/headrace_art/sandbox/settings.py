"""What can be set of the stand-in. Source: reference art 5.2."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from headrace.config import Section

Permission = Literal["Student Read", "Student Modify", "Student Upload", "Entity Read", "Entity Modify"]

ALL_PERMISSIONS: tuple[Permission, ...] = (
    "Student Read", "Student Modify", "Student Upload", "Entity Read", "Entity Modify",
)  # fmt: skip


class ArtSandboxSettings(Section):
    """How this ART behaves. As a rate, None is no limit and 0 is stopped. All but `nodes` may change while it runs."""

    seed: int = Field(0, description="Of everything that is drawn.")
    state: str = Field("CA", description="The state that exists from the start.")
    nodes: int = Field(2, description="ART nodes; each has its own queue and token memory.", ge=1, le=16)

    users: dict[str, str] = Field(
        {"loader@example.org": "sandbox"}, description="Who gets a token: passwords by user name."
    )
    client_id: str = Field("headrace", description="The OAuth client.")
    client_secret: str = Field("sandbox", description="The OAuth client's secret.")
    token_ttl_s: float = Field(36_000, description="Life of a token in seconds.", gt=0)
    expired_mode: Literal["cached", "purged", "mixed"] = Field(
        "cached", description="An expired token gets 400 invalid_grant, 401 invalid_token, or either by node."
    )
    revoked: bool = Field(False, description="The provider knows no token any more; nodes that cached one still do.")
    permissions: tuple[Permission, ...] = Field(ALL_PERMISSIONS, description="What the users may do.")
    https_required: bool = Field(False, description="Answer 403 to plain HTTP under /external/.")
    location_host: str | None = Field(
        None, description="Host that Location names, as behind a proxy; else the one asked for."
    )

    consume_unchanged: float | None = Field(800, description="Unchanged students a second and node.", ge=0)
    consume_changed: float | None = Field(100, description="Students saved a second and node.", ge=0)
    event_rate: float | None = Field(50, description="Events a second that leave the queue events.in.", ge=0)
    queue_max: int = Field(50_000, description="Students that fit into a node's queue.", ge=1)
    flow_at: float = Field(0.6, description="Share of queue_max at which publishing is slowed down.", gt=0, le=1)
    capacity: float = Field(1.0, description="Share of queue_max at which publishing hangs.", gt=0, le=1)
    resume_at: float = Field(0.4, description="Share of queue_max below which it is normal again.", gt=0, le=1)
    request_threads: int = Field(8, description="Requests that a node serves at once.", ge=1)
    accept_backlog: int = Field(4, description="Requests that wait when all threads hang; with more it refuses.", ge=0)

    latency_ms: float = Field(20, description="Milliseconds that any request takes.", ge=0)
    publish_us: float = Field(50, description="Microseconds to publish one student.", ge=0)
    entity_create_ms: float = Field(0, description="Milliseconds more that creating an entity takes.", ge=0)
    max_body: int | None = Field(None, description="Larger bodies get 413 from the proxy in front.", ge=1)

    strict_fields: bool = Field(True, description="Check the rules of students' fields when they are consumed.")
    entity_cache_lag_s: float = Field(
        10, description="Until entities have been still for this long, students of new ones get access denied.", ge=0
    )
    outside_entities: frozenset[str] = Field(
        frozenset(), description="Ids of entities that exist but lie outside what the users may see."
    )
    accommodations: bool = Field(False, description="Students may have accommodations, which vanish when replaced.")
