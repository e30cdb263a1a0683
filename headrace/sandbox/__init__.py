"""Stand-ins for the outside systems: what demonstrations, tests and benchmarks run against."""
