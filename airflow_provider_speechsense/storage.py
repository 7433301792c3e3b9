"""Reading recordings and JSON from a path or URI, and writing results to one."""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

from airflow_provider_speechsense.exceptions import ConfigurationError, SpeechSenseError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_speechsense.api.sources import AudioSource

#: Bytes of read-ahead from object storage. s3fs would take 50 MiB for each open file.
READ_AHEAD_BYTES = 4 * 1024 * 1024

#: What to install for the schemes that Airflow's own providers serve.
_SCHEME_PROVIDERS = {
    "s3": "apache-airflow-providers-amazon[s3fs]",
    "s3a": "apache-airflow-providers-amazon[s3fs]",
    "gs": "apache-airflow-providers-google",
    "gcs": "apache-airflow-providers-google",
    "abfs": "apache-airflow-providers-microsoft-azure",
    "abfss": "apache-airflow-providers-microsoft-azure",
}


@dataclass(frozen=True)
class StoredFile:
    """A file at a URI, read through Airflow's ObjectStoragePath, whose user part names an Airflow connection.

    :param uri: such as ``s3://my_conn@bucket/calls/1.wav``
    """

    uri: str

    @property
    def name(self) -> str:
        """The URI, without a password or a signature that it may carry."""
        return _without_secrets(self.uri)

    @property
    def size(self) -> int:
        """Size in bytes now."""
        return int(_storage_path(self.uri).stat().st_size)

    def open(self) -> BinaryIO:
        """Open the file for reading with little read-ahead."""
        return cast("BinaryIO", _storage_path(self.uri).open("rb", block_size=READ_AHEAD_BYTES))


def source(location: Any) -> AudioSource:
    """Return the recording at a path or URI, given as text or as a path object of Python's or Airflow's.

    :raises ConfigurationError: it is neither
    """
    from airflow_provider_speechsense.api.sources import LocalFile

    where = _location(location)
    return StoredFile(where) if "://" in where else LocalFile(Path(where).expanduser())


def read_json(location: Any) -> Any:
    """Return what the JSON file at a path or URI holds.

    :raises SourceReadError: it cannot be read
    :raises ConfigurationError: it is no JSON
    """
    from airflow_provider_speechsense.api.sources import read_error

    found = source(location)
    try:
        with found.open() as file:
            text = file.read()
    except SpeechSenseError:
        raise
    except Exception as error:
        raise read_error(found, error) from error
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"{found.name} is not JSON: {error}.", hint="mend the file.") from None


def parse_json(text: str) -> Any:
    """Return the JSON that a template rendered to.

    :raises ConfigurationError: it is no JSON
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigurationError(
            f"This is not JSON: {text[:80]!r}: {error}.",
            hint="pass JSON with the tojson filter of the template, or an XComArg instead of text.",
        ) from None


def json_or_location(value: Any) -> Any:
    """Return the JSON that ``value`` is, spells, or names by path or URI.

    A template renders to text, so text that begins like JSON is taken for it.
    """
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        return parse_json(value)
    if not isinstance(value, str) and not hasattr(value, "parents"):
        return value
    return read_json(value)


def write_json(location: Any, rows: Iterable[Any]) -> int:
    """Write ``rows`` as one JSON array to a path or URI, whole or not at all; return how many.

    One row is in memory at a time. If ``rows`` raises, nothing is written.

    :raises ConfigurationError: nothing can be written there
    """
    count = 0
    with _replacing(_location(location)) as file:
        for row in rows:
            file.write(b"[\n" if count == 0 else b",\n")
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False).encode())
            count += 1
        file.write(b"\n]\n" if count else b"[]\n")
    return count


@contextmanager
def _replacing(location: str) -> Iterator[IO[bytes]]:
    """Give a file to write, and put it in place when all went well."""
    if "://" in location and not location.startswith("file:///"):
        target = _storage_path(location)
        with tempfile.NamedTemporaryFile(prefix="speechsense-") as spool:
            yield spool
            spool.flush()
            # Not through open(): closing the file after an error would put in place what was written so far.
            target.fs.put_file(spool.name, target.path)
        return
    # Through links, or a link would be replaced instead of the file that it names.
    path = Path(location.removeprefix("file://")).expanduser().resolve()
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            raise OSError(f"{path} is no file")
        file = part.open("xb")
    except OSError as error:
        raise ConfigurationError(
            f"{location} cannot be written: {error}.",
            hint="check the path, and the rights of the worker's user.",
        ) from error
    try:
        with file:
            yield file
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _location(given: Any) -> str:
    if isinstance(given, str) and given.strip():
        return given
    if hasattr(given, "parents"):
        # Not os.fspath, which an ObjectStoragePath does not have.
        return str(given)
    raise ConfigurationError(f"{given!r} is neither a path nor a URI.", hint="give one of a single file.")


def _without_secrets(uri: str) -> str:
    scheme, _, rest = uri.partition("://")
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    return f"{scheme}://{user.partition(':')[0]}{at}{host}{slash}{path.partition('?')[0]}"


def _storage_path(uri: str) -> Any:
    from airflow.providers.common.compat.sdk import AirflowNotFoundException, ObjectStoragePath

    try:
        path = ObjectStoragePath(uri)
        path.fs  # noqa: B018 - attached late, and here is where a missing package is told
    except (AirflowNotFoundException, ImportError, ValueError) as error:
        scheme = uri.partition("://")[0]
        package = _SCHEME_PROVIDERS.get(scheme)
        raise ConfigurationError(
            f"Airflow cannot open {_without_secrets(uri)}: {error}",
            hint=f"check the connection that it names, and that {package} is installed."
            if package
            else "check the URI, and the provider that serves its scheme.",
        ) from error
    return path
