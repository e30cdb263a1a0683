"""The programs of 2020 and 2021 under their old names, with their old arguments: each calls a command of `headrace`.

Source: reference filestream, section 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from headrace.cli import main

OLD_CHUNK = 16384
OLD_THREADS = 5
OLD_QUEUE = 3000
OLD_UPDATE_SECONDS = 30


def upload_data_file(arguments: Sequence[str] | None = None) -> None:
    """Send one file: `upload_data_file FILE`, now `headrace upload FILE`."""
    parser = _parser("upload_data_file", "Send one file. The same as: headrace upload FILE")
    parser.add_argument("filepath", help="file to send")
    _sending(parser)
    given = parser.parse_args(arguments)
    main([*_before(given), "upload", *_options(given), "--", given.filepath])


def upload_data_files_added_to_directory(arguments: Sequence[str] | None = None) -> None:
    """Send what is in a folder and what is added, but no subfolders and dot files; now `headrace watch DIR`."""
    parser = _parser(
        "upload_data_files_added_to_directory",
        "Send the files of a folder, without subfolders and names that begin with a dot. See also: headrace watch.",
    )
    parser.add_argument("directory_path", help="folder to watch")
    _sending(parser)
    parser.add_argument(
        "--queue_max_size", type=int, default=OLD_QUEUE, help="messages that may be under way (default: %(default)s)"
    )
    parser.add_argument(
        "--update_seconds",
        type=float,
        default=OLD_UPDATE_SECONDS,
        help='seconds between two "." on standard output, -1 for none (default: %(default)s)',
    )
    parser.add_argument("--new_files_only", action="store_true", help="leave out the files that are there at the start")
    given = parser.parse_args(arguments)
    options = [
        *_options(given),
        f"--queue_max_size={given.queue_max_size}",
        f"--update_seconds={given.update_seconds}",
        "--exclude=/",
        r"--exclude=^\.",
    ]
    if given.new_files_only:
        options.append("--new-only")
    main([*_before(given), "watch", *options, "--", given.directory_path])


def reconstruct_data_files(arguments: Sequence[str] | None = None) -> None:
    """Rebuild files in a folder: `reconstruct_data_files WORKDIR`, now `headrace assemble DIR`."""
    parser = _parser("reconstruct_data_files", "Rebuild files in a folder. The same as: headrace assemble DIR")
    parser.add_argument("workdir", help="folder to rebuild the files in; created if it is missing")
    parser.add_argument(
        "--n_threads", type=int, default=OLD_THREADS, help="consumers that share the work (default: %(default)s)"
    )
    parser.add_argument("--update_seconds", type=float, help="no longer used: metrics and the log tell how it goes")
    parser.add_argument(
        "--consumer_group_ID", metavar="NAME", help="name of this tree, whose copies share the work (default: files)"
    )
    given = parser.parse_args(arguments)
    options = [f"--n_threads={given.n_threads}"]
    if given.consumer_group_ID is not None:
        options.append(f"--sink={given.consumer_group_ID}")
    main([*_before(given), "assemble", *options, "--", given.workdir])


def _parser(program: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--config", metavar="FILE", help="settings file, headrace.toml")
    parser.add_argument("--topic_name", help="no longer used: the topic is the prefix of the settings and chunks")
    return parser


def _sending(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--n_threads", type=int, default=OLD_THREADS, help="files read in parallel (default: %(default)s)"
    )
    parser.add_argument(
        "--chunk_size", type=int, default=OLD_CHUNK, help="bytes of a chunk, a power of two (default: %(default)s)"
    )


def _options(given: argparse.Namespace) -> list[str]:
    return [f"--n_threads={given.n_threads}", f"--chunk_size={given.chunk_size}"]


def _before(given: argparse.Namespace) -> list[str]:
    if given.topic_name is not None:
        sys.stderr.write("--topic_name is no longer used: the topic is the prefix of the settings and chunks.\n")
    return [] if given.config is None else [f"--config={given.config}"]
