"""From a row of the dump to a student as ART wants it: pure, without clock, log or Kafka. Source: reference art 2."""

from headrace_art.mapping.student import Mapped, MappingSettings, StudentMapper
from headrace_art.mapping.table import REQUIRED_COLUMNS, TABLE
from headrace_art.mapping.template import Template

__all__ = ["REQUIRED_COLUMNS", "TABLE", "Mapped", "MappingSettings", "StudentMapper", "Template"]
