"""Why a declaration, a row or a whole file is refused. No message quotes what a file holds: it may be personal.

ConfigError
├── DatasetMalformed, UnknownDataset, DatasetTwice
PermanentError
├── RefusedRow      one row becomes a dead letter, the others go on
└── RefusedFile     nothing of the file is published
"""

from __future__ import annotations

from headrace.errors import ConfigError, PermanentError


class DatasetMalformed(ConfigError):
    """The dataset in {file} cannot be used: {place}: {problem}."""

    code = "dataset-malformed"


class DatasetTwice(ConfigError):
    """The dataset {name} is declared twice, in {first} and in {second}. Give one of them another name."""

    code = "dataset-twice"


class UnknownDataset(ConfigError):
    """There is no dataset {name}. Known datasets: {valid}. Yours are read from the folder in datasets.folder."""

    code = "unknown-dataset"


class RefusedRow(PermanentError):
    """Line {line}: the row cannot be read."""

    code = "row-refused"


class WrongColumns(RefusedRow):
    """Line {line}: the row has {found} fields instead of {wanted}."""

    code = "wrong-columns"


class BlankLine(RefusedRow):
    """Line {line}: the line is empty."""

    code = "blank-line"


class Undecodable(RefusedRow):
    """Line {line}: byte {position} of the row cannot be read as {encoding}."""

    code = "undecodable"


class SuspectedUtf8(RefusedRow):
    """Line {line}: the row is UTF-8, but the dataset is declared as {encoding}; its letters would come out wrong."""

    code = "suspected-utf8"


class StrayQuote(RefusedRow):
    """Line {line}: {problem}."""

    code = "stray-quote"


class RowTooLong(RefusedRow):
    """Line {line}: the row is longer than {limit} bytes; its beginning is kept."""

    code = "row-too-long"


class EmptyKey(RefusedRow):
    """Line {line}: the key column {column!r} is empty, so the record could not keep its order."""

    code = "empty-key"


class KeyTooLong(RefusedRow):
    """Line {line}: the record's key is longer than {limit} bytes."""

    code = "key-too-long"


class WrongValue(RefusedRow):
    """Line {line}: column {column!r} is no {kind}."""

    code = "wrong-value"


class RefusedFile(PermanentError):
    """The file cannot be trusted, so nothing of it was published."""

    code = "file-refused"


class NoHeader(RefusedFile):
    """{member} has no header line, so nothing of the file was published."""

    code = "no-header"


class HeaderMismatch(RefusedFile):
    """The header of {member} is not that of the dataset {dataset}: {problem}. Nothing of the file was published."""

    code = "header-mismatch"


class DamagedArchive(RefusedFile):
    """The archive is damaged: {problem}. Nothing of it was published."""

    code = "damaged-archive"


class UnusableArchive(RefusedFile):
    """The archive cannot be read: {problem}. Nothing of it was published."""

    code = "unusable-archive"


class WrongEncoding(RefusedFile):
    """The file is not in {encoding}, as the dataset is declared, but looks like {seems}; nothing was published."""

    code = "wrong-encoding"


class TooManyBadRows(RefusedFile):
    """{bad} of {rows} rows cannot be read, more than the dataset allows; nothing of the file was published."""

    code = "too-many-bad-rows"


class ContentTooLarge(RefusedFile):
    """The archive holds more than {limit} bytes, more than is allowed; nothing of it was published."""

    code = "content-too-large"


class Shrunk(RefusedFile):
    """The file has {rows} rows, the last one had {before}: a drop of more than {share:.0%}; nothing was published."""

    code = "shrunk"
