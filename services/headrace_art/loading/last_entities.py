"""A load without schools: the log is told that its schools are those that were confirmed last."""

from __future__ import annotations

import hashlib
import time

from headrace.codec import avro
from headrace.kafka.clients import Cluster, KafkaUnreachable
from headrace.keys import encode_key, partition_of
from headrace_art.topics import ENTITIES, EntitiesDone

FLUSH_SECONDS = 10.0


def take_last_entities(cluster: Cluster, job: str) -> None:
    """Say that nothing has to be done for the schools of a job; a second time changes nothing.

    Raises KafkaUnreachable.
    """
    # No file has this id: it stands for the schools file that this job has not.
    file = hashlib.blake2b(job.encode(), digest_size=16, person=b"art-no-schools").digest()
    event = EntitiesDone(job=job, file=file, partition=0, partitions=1, reaches={}, at=time.time_ns() // 1000)
    producer = cluster.producer()
    name = cluster.topic_name(ENTITIES)
    number = partition_of(file.hex(), cluster.partitions(ENTITIES, producer))
    producer.produce(name, avro.encode(event), encode_key((file.hex(), "0")), partition=number)
    if producer.flush(FLUSH_SECONDS):
        raise KafkaUnreachable(bootstrap=cluster.bootstrap, problem="a word on the schools is not on the log")
