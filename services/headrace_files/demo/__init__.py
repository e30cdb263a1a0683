"""The main job on one machine, from nothing, to watch: `headrace demo`."""
