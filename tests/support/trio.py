"""Three brokers of one cluster on this machine, of which any may be killed and started again."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from headrace.broker import free_port
from headrace.broker.jars import ensure_jars
from headrace.broker.java import find_java
from headrace.broker.launch import Launch
from headrace.broker.layout import Layout
from headrace.broker.probe import answers
from headrace.config import KafkaSettings
from headrace.kafka.clients import Cluster
from tests.support.waiting import wait_until

NODES = (1, 2, 3)
CLUSTER_ID = "aGVhZHJhY2UtdHJpby0wMA"
START_SECONDS = 60.0


@dataclass
class Trio:
    """Nodes 1 to 3, each a broker and a controller; topics have three replicas, of which two must be there."""

    folder: Path
    ports: dict[int, int] = field(default_factory=lambda: {node: free_port() for node in NODES})
    controllers: dict[int, int] = field(default_factory=lambda: {node: free_port() for node in NODES})
    running: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def bootstrap(self) -> str:
        """All three."""
        return ",".join(f"127.0.0.1:{port}" for port in self.ports.values())

    def cluster(self, prefix: str) -> Cluster:
        """What a service sees."""
        return Cluster(KafkaSettings(bootstrap=self.bootstrap, prefix=prefix, partitions=3, replication=3))

    def start(self, *nodes: int) -> None:
        """Start these nodes, or all, and wait until they answer."""
        for node in nodes or NODES:
            launch = self._launch(node)
            launch.write_settings(self.ports[node], self.controllers[node])
            if not launch.layout.data.exists():
                launch.format(START_SECONDS, cluster=CLUSTER_ID, standalone=False)
            self.running[node] = launch.spawn()
        for node in nodes or NODES:
            wait_until(lambda port=self.ports[node]: answers(port), within=START_SECONDS)

    def kill(self, node: int) -> None:
        """SIGKILL."""
        process = self.running.pop(node)
        process.kill()
        process.wait()

    def end(self) -> None:
        """Kill all."""
        for node in list(self.running):
            self.kill(node)

    def leader(self, topic: str, partition: int) -> int:
        """The node that leads a partition."""
        found = Cluster(KafkaSettings(bootstrap=self.bootstrap)).admin().list_topics(topic, timeout=10)
        return int(found.topics[topic].partitions[partition].leader)

    def _launch(self, node: int) -> Launch:
        voters = ",".join(f"{number}@127.0.0.1:{port}" for number, port in self.controllers.items())
        extra = {
            "node.id": str(node),
            "controller.quorum.voters": voters,
            "controller.quorum.bootstrap.servers": "",
            "offsets.topic.replication.factor": "3",
            "transaction.state.log.replication.factor": "3",
            "transaction.state.log.min.isr": "2",
            "share.coordinator.state.topic.replication.factor": "3",
            "share.coordinator.state.topic.min.isr": "2",
            "min.insync.replicas": "2",
        }
        return Launch(
            layout=Layout(self.folder / f"node-{node}"), java=find_java(), jars=ensure_jars(), heap_mebibytes=256,
            fast_start=True, log_level="INFO", extra=extra,
        )  # fmt: skip
