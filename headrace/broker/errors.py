"""What can go wrong with the embedded broker.

HeadraceError
├── ConfigError
│   ├── JavaMissing         no Java, or one that is too old
│   ├── MavenMissing        the jars are not in the cache and nothing can fetch them
│   ├── JarsNotFetched      Maven ran and failed
│   ├── PortTaken           another process listens on the port
│   └── DiskTooFull         not enough room to start
└── FatalError
    └── BrokerNotStarted    the process ended, or did not answer in time
"""

from __future__ import annotations

from headrace.errors import ConfigError, FatalError


class JavaMissing(ConfigError):
    """The embedded broker needs Java {needed} or newer, but {found}. Install it with `apt-get install openjdk-17-jdk-headless` (Debian, Ubuntu) or `brew install openjdk@17` (macOS), or set JAVA_HOME."""  # noqa: E501

    code = "java-missing"


class MavenMissing(ConfigError):
    """The jars of Apache Kafka are not in {cache} yet and `mvn`, which fetches them once, is not on PATH. Install it with `apt-get install maven` (Debian, Ubuntu) or `brew install maven` (macOS)."""  # noqa: E501

    code = "maven-missing"


class JarsNotFetched(ConfigError):
    """Maven could not fetch the jars of Apache Kafka named in {pom}: {problem}. The first start needs the network; later ones do not. Try `{command}` to see more."""  # noqa: E501

    code = "jars-not-fetched"


class PortTaken(ConfigError):
    """Port {port} of 127.0.0.1, where the embedded broker is to listen, is held by {holder}. End that process, or choose another port with --port."""  # noqa: E501

    code = "port-taken"


class DiskTooFull(ConfigError):
    """The disk of {folder} has {free_mebibytes} MiB free; the embedded broker starts with {needed_mebibytes} MiB or more. Make room, or choose another folder with --data."""  # noqa: E501

    code = "disk-too-full"


class BrokerNotStarted(FatalError):
    """The embedded broker on {folder} {problem}. {log} ends with: {tail}."""

    code = "broker-not-started"
