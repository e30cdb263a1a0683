"""Headrace moves data through Apache Kafka: the spine that every service is built on."""

__version__ = "0.1.0"
