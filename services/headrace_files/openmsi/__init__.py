"""The chunk messages of OpenMSIStream: what the bridge reads and what `--format openmsi` writes."""
