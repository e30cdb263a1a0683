"""Files through Kafka: folders are watched and sent, trees are rebuilt, object stores filled."""

from __future__ import annotations

from headrace.families import CommandEntry, DemoEntry, Family, StageEntry

family = Family(
    name="files",
    topics="headrace_files.openmsi.topics:TOPICS",
    stages=(
        StageEntry(
            name="directory_source",
            purpose="watches a folder and sends its files",
            settings="headrace_files.directory_source.settings:DirectorySourceSettings",
            factory="headrace_files.directory_source.service:service",
            check="headrace_files.checks:directory_source",
            metrics="headrace_files.directory_source.reporting:METRICS",
            send_once="headrace_files.upload.once:send_once",
            reads=("upload-acks",),
            writes=("chunks", "chunks-personal", "files"),
        ),
        StageEntry(
            name="sftp_source",
            purpose="fetches files from an sFTP server and sends them",
            settings="headrace_files.sftp_source.settings:SftpSourceSettings",
            factory="headrace_files.sftp_source.service:service",
            check="headrace_files.checks:sftp_source",
            metrics="headrace_files.sftp_source.reporting:METRICS",
            send_once="headrace_files.sftp_source.once:send_once",
            reads=("upload-acks",),
            writes=("chunks", "chunks-personal", "files"),
        ),
        StageEntry(
            name="assembler",
            purpose="rebuilds files in a folder tree",
            settings="headrace_files.assembler.settings:AssemblerSettings",
            factory="headrace_files.assembler.service:service",
            check="headrace_files.checks:assembler",
            destination="root",
            reads=("chunks",),
            writes=("upload-acks", "dead-letters"),
        ),
        StageEntry(
            name="archiver",
            purpose="stores files in an object store",
            settings="headrace_files.archiver.settings:ArchiverSettings",
            factory="headrace_files.archiver.service:service",
            metrics="headrace_files.archiver.metrics:METRICS",
            check="headrace_files.checks:archiver",
            destination="bucket",
            reads=("chunks",),
            writes=("upload-acks", "dead-letters"),
        ),
        StageEntry(
            name="csv_fanout",
            purpose="turns files of declared datasets into records",
            settings="headrace_files.csv_fanout.settings:CsvFanoutSettings",
            factory="headrace_files.csv_fanout.service:service",
            check="headrace_files.checks:csv_fanout",
            metrics="headrace_files.csv_fanout.service:METRICS",
            datasets_unless="paths",
            reads=("chunks", "chunks-personal"),
            writes=("upload-acks", "dead-letters", "records.*", "jobs"),
        ),
        StageEntry(
            name="openmsi_bridge",
            purpose="brings over the files of an OpenMSIStream topic",
            settings="headrace_files.openmsi_bridge.settings:OpenmsiBridgeSettings",
            factory="headrace_files.openmsi_bridge.service:service",
            metrics="headrace_files.openmsi_bridge.service:METRICS",
            foreign="topic",
            writes=("chunks", "files", "upload-acks", "dead-letters"),
        ),
    ),
    commands=(
        CommandEntry(
            "watch", "headrace_files.directory_source.command:watch", "Send every file of a folder, and what is added."
        ),
        CommandEntry(
            "upload", "headrace_files.upload.command:upload", "Send files once and wait until they have arrived."
        ),
        CommandEntry(
            "fetch", "headrace_files.sftp_source.command:fetch", "Fetch files from an sFTP server and send them."
        ),
        CommandEntry(
            "assemble", "headrace_files.assembler.command:assemble", "Rebuild files from Kafka in a folder tree."
        ),
        CommandEntry(
            "archive", "headrace_files.archiver.command:archive", "Store files from Kafka in an object store."
        ),
        CommandEntry(
            "fan-out", "headrace_files.csv_fanout.command:fan_out", "Turn files of declared datasets into records."
        ),
        CommandEntry(
            "bridge", "headrace_files.openmsi_bridge.command:bridge", "Bring over the files of an OpenMSIStream topic."
        ),
    ),
    demos=(
        DemoEntry(
            "files", "headrace_files.demo.files:demo", "an instrument's folder goes to another site and to an archive"
        ),
    ),
    sandbox=(
        CommandEntry(
            "instrument", "headrace_files.demo.instrument:instrument", "Fill a folder, as an instrument does."
        ),
        CommandEntry("sftp", "headrace_files.sandbox.sftp.command:sftp", "Run an sFTP server on a folder."),
    ),
)
