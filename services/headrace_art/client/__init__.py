"""A client of ART's REST API: tokens, time-outs, errors that say whether to try again. Source: reference art 3."""

from headrace_art.client.art import ArtClient, Kind
from headrace_art.client.records import BatchStatus, Entity
from headrace_art.client.settings import ArtSettings

__all__ = ["ArtClient", "ArtSettings", "BatchStatus", "Entity", "Kind"]
