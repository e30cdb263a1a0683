"""Stores files from Kafka in an object store, without a local copy."""
