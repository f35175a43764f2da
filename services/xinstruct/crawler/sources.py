"""Text files (JSONL, Parquet): read a bounded number of rows at a time, from a position that the frontier keeps."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from gzip import BadGzipFile
from lzma import LZMAError
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.spec import AbstractBufferedFile

from xinstruct.spine.blobs import store_errors
from xinstruct.spine.errors import Invalid, NotFound, Unavailable, require

ROW_BYTES_MAX = 5_000_000


@dataclass(frozen=True, slots=True)
class TextRow:
    """One row of a text file. number: from 0. error: why it has no text, "" when it has."""

    number: int
    text: str = ""
    url: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class TextRows:
    """Some rows, the position from which to go on, and whether the file ends there."""

    rows: tuple[TextRow, ...]
    position: int
    ended: bool


def read_jsonl(location: str, position: int, *, first_number: int, rows_max: int, text_field: str,
               url_field: str) -> TextRows:
    """Rows of a JSONL file from byte `position` on; a bad line is a row with an error. NotFound: there is no file.

    Invalid when it is compressed and damaged at `position`; rows before the damage are read first.
    """
    rows: list[TextRow] = []
    try:
        with _store_errors(location), _opened(location) as file:
            file.seek(position)
            for number in range(first_number, first_number + rows_max):
                line = file.readline(ROW_BYTES_MAX)
                if not line:
                    return TextRows(tuple(rows), position, True)
                if len(line) == ROW_BYTES_MAX:
                    line = _skip_line(file)
                position = file.tell()
                rows.append(_json_row(line, number, text_field, url_field))
    except (BadGzipFile, EOFError, LZMAError, zlib.error) as error:
        if not rows:
            raise Invalid(f"damaged compressed file: {str(error)[:200]}") from error
    except OSError as error:
        raise Unavailable(f"cannot read {location}: {error}") from error
    return TextRows(tuple(rows), position, False)


def read_parquet(location: str, position: int, *, rows_max: int, text_field: str, url_field: str) -> TextRows:
    """Rows of a Parquet file from row `position` on. Invalid when it is none, or lacks the text column."""
    with _store_errors(location), _opened(location) as file:
        try:
            table = pq.ParquetFile(file)
            names = table.schema_arrow.names
            require(text_field in names, f"no column {text_field!r}; there are {', '.join(names)[:200]}")
            columns = [text_field, *([url_field] if url_field in names else [])]
            rows = tuple(_parquet_rows(table, position, rows_max, columns))
            return TextRows(rows, position + len(rows), position + len(rows) >= table.metadata.num_rows)
        except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
            # The disk's or the network's own; Arrow's are plain and have no number.
            if isinstance(error, OSError) and (type(error) is not OSError or error.errno is not None):
                raise Unavailable(f"cannot read {location}: {error}") from error
            raise Invalid(f"not a readable Parquet file: {str(error)[:200]}") from error


def _parquet_rows(table: Any, position: int, rows_max: int, columns: list[str]) -> Iterator[TextRow]:
    start = 0
    for group in range(table.num_row_groups):
        count = table.metadata.row_group(group).num_rows
        if position < start + count and position + rows_max > start:
            begin = max(position - start, 0)
            part = table.read_row_group(group, columns=columns).slice(begin, position + rows_max - start - begin)
            for index, row in enumerate(part.to_pylist()):
                yield _row(row, start + begin + index, columns[0], columns[-1] if len(columns) > 1 else "")
        start += count


def _json_row(line: bytes, number: int, text_field: str, url_field: str) -> TextRow:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return TextRow(number, error="not JSON" if line else f"longer than {ROW_BYTES_MAX} bytes")
    return _row(row, number, text_field, url_field) if isinstance(row, dict) else TextRow(number, error="not an object")


def _row(row: Mapping[str, Any], number: int, text_field: str, url_field: str) -> TextRow:
    text, url = row.get(text_field), row.get(url_field) if url_field else ""
    if not isinstance(text, str) or not text.strip():
        return TextRow(number, error=f"no text in {text_field!r}")
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON can spell half a surrogate pair
        return TextRow(number, error=f"no Unicode text in {text_field!r}")
    return TextRow(number, text, url if isinstance(url, str) else "")


def _skip_line(file: Any) -> bytes:
    while (rest := file.readline(ROW_BYTES_MAX)) and len(rest) == ROW_BYTES_MAX:
        pass
    return b""


def _opened(location: str) -> Any:
    try:
        file = fsspec.open(location, "rb", compression="infer").open()
    except FileNotFoundError as error:
        raise NotFound(f"no file {location}") from error
    except (OSError, ValueError, ImportError) as error:
        raise Unavailable(f"cannot open {location}: {error}") from error
    # A store's own file reads no line of a bounded length.
    return io.BufferedReader(file) if isinstance(file, AbstractBufferedFile) else file


@contextmanager
def _store_errors(location: str) -> Iterator[None]:
    """What an object store's client raises, as NotFound or Unavailable; every other error passes."""
    try:
        yield
    except store_errors() as error:
        if _says_missing(error):
            raise NotFound(f"no file {location}") from error
        raise Unavailable(f"cannot read {location}: {type(error).__name__}: {error}") from error


def _says_missing(error: Exception) -> bool:
    """Whether a store's error is its 404; each client has a place of its own for that."""
    answer = getattr(error, "response", None)
    names = (name for name in ("status", "status_code", "code") if hasattr(error, name))
    said = {str(getattr(error, next(names, ""), ""))}
    if isinstance(answer, Mapping):
        said.add(str(answer.get("Error", {}).get("Code", "")))
    return bool(said & {"404", "NoSuchKey", "NoSuchBucket"})
