"""Sources are read, and results written, on disk and in object storage; what goes wrong is said."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_speechsense.exceptions import ConfigurationError, SourceReadError
from airflow_provider_speechsense.storage import json_or_location, parse_json, read_json, source, write_json


class _Interruption(BaseException):
    """Stands for Airflow's timeout, which is no Exception."""


@pytest.fixture
def bucket() -> Iterator[Any]:
    """An object store at ``memory://``, as Airflow attaches one."""
    try:
        from airflow.sdk.io import attach
    except ImportError:
        from airflow.io.store import attach

    store = MemoryFileSystem()
    store.store.clear()
    attach("memory", fs=store)
    yield store
    store.store.clear()


# --- reading


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_a_local_file_is_read_by_path_and_by_uri(prefix: str, tmp_path: Path) -> None:
    (tmp_path / "call.wav").write_bytes(b"RIFF....")
    found = source(f"{prefix}{tmp_path}/call.wav")
    assert found.name == f"{prefix}{tmp_path}/call.wav"
    assert found.size == 8
    with found.open() as file:
        assert file.read(4) == b"RIFF"


def test_a_location_may_be_a_path_object_of_pythons_or_airflows(bucket: Any, tmp_path: Path) -> None:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    (tmp_path / "1.json").write_text('["local"]')
    bucket.pipe("/calls/1.json", b'["stored"]')
    stored = ObjectStoragePath("memory://calls/1.json")
    assert read_json(tmp_path / "1.json") == json_or_location(tmp_path / "1.json") == ["local"]
    assert read_json(stored) == json_or_location(stored) == ["stored"]
    assert (
        write_json(tmp_path / "2.json", [1]) == write_json(ObjectStoragePath("memory://out/2.json"), [1]) == 1
    )
    assert json.loads(bucket.cat("/out/2.json")) == json.loads((tmp_path / "2.json").read_text()) == [1]


def test_a_path_may_begin_at_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_json("~/1.json", ["home"])
    assert (tmp_path / "1.json").exists()
    assert read_json("~/1.json") == ["home"]


@pytest.mark.parametrize("location", [None, 7, "", " ", b"1.json"])
def test_a_location_that_is_none_is_refused(location: Any) -> None:
    for use in (source, lambda where: write_json(where, [])):
        with pytest.raises(ConfigurationError, match="is neither a path nor a URI"):
            use(location)


def test_what_a_uri_keeps_secret_is_not_repeated() -> None:
    for uri in ("nonsense://user:password@host/1.json", "nonsense://host/1.json?signature=password"):
        assert "password" not in source(uri).name
        with pytest.raises(ConfigurationError) as caught:
            read_json(uri)
        assert "password" not in str(caught.value)


def test_an_object_is_read_in_parts(bucket: Any) -> None:
    bucket.pipe("/calls/1.wav", b"x" * 100_000)
    found = source("memory://calls/1.wav")
    assert found.size == 100_000
    with found.open() as file:
        assert len(file.read(60_000)) == 60_000
        assert len(file.read(60_000)) == 40_000


def test_json_is_read_from_disk_and_from_object_storage(bucket: Any, tmp_path: Path) -> None:
    (tmp_path / "metadata.json").write_text('{"client_name": "Борис"}')
    bucket.pipe("/calls/1.json", b'["a"]')
    assert read_json(str(tmp_path / "metadata.json")) == {"client_name": "Борис"}
    assert read_json("memory://calls/1.json") == ["a"]


def test_json_that_is_not_there_is_a_source_that_no_retry_brings_back(bucket: Any, tmp_path: Path) -> None:
    for location in (f"{tmp_path}/no.json", "memory://calls/no.json"):
        with pytest.raises(SourceReadError, match=r"no\.json does not exist") as caught:
            read_json(location)
        assert not caught.value.retryable


@pytest.mark.parametrize("content", [b"{'a': 1}", b"\xff\xfe", b""])
def test_a_file_that_is_no_json_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "metadata.json").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"metadata\.json is not JSON: .*mend the file"):
        read_json(str(tmp_path / "metadata.json"))


@pytest.mark.parametrize(
    ("uri", "remedy"),
    [
        ("abfss://calls/1.json", "apache-airflow-providers-microsoft-azure is installed"),
        ("gs://calls/1.json", "apache-airflow-providers-google is installed"),
        ("nonsense://calls/1.json", "check the URI, and the provider that serves its scheme"),
    ],
)
def test_a_scheme_that_airflow_cannot_open_is_told_with_what_to_install(uri: str, remedy: str) -> None:
    with pytest.raises(ConfigurationError, match=remedy) as caught:
        read_json(uri)
    assert uri in str(caught.value)


def test_json_is_taken_as_it_is_spelt_or_named(tmp_path: Path) -> None:
    (tmp_path / "metadata.json").write_text('{"a": 1}')
    for given in ({"a": 1}, ' {"a": 1}', str(tmp_path / "metadata.json")):
        assert json_or_location(given) == {"a": 1}
    assert json_or_location('[{"a": 1}]') == [{"a": 1}]


def test_text_that_a_template_made_of_a_dict_is_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigurationError, match=r"This is not JSON: .*tojson filter"):
        parse_json("{'a': 1}")


# --- writing


@pytest.mark.parametrize("rows", [[], [{"a": 1}], [{"a": "звонок"}, {"b": [1, None]}, {}]])
def test_rows_are_written_as_one_array(rows: list[Any], bucket: Any, tmp_path: Path) -> None:
    for location in (f"{tmp_path}/new/1.json", f"file://{tmp_path}/new/2.json", "memory://out/new/3.json"):
        assert write_json(location, iter(rows)) == len(rows)
    written = [
        (tmp_path / "new/1.json").read_bytes(),
        (tmp_path / "new/2.json").read_bytes(),
        bucket.cat("/out/new/3.json"),
    ]
    assert [json.loads(text) for text in written] == [rows] * 3
    assert {text.count(b"\n") for text in written} == {len(rows) + 2 if rows else 1}


def _rows_that_break(error: BaseException) -> Iterator[Any]:
    yield {"a": 1}
    raise error


@pytest.mark.parametrize("error", [SourceReadError("gone"), _Interruption()])
def test_what_breaks_halfway_leaves_the_old_file_and_nothing_else(
    error: BaseException, bucket: Any, tmp_path: Path
) -> None:
    for location in (f"{tmp_path}/1.json", f"file://{tmp_path}/2.json", "memory://out/3.json"):
        write_json(location, [{"old": True}])
        with pytest.raises(type(error)):
            write_json(location, _rows_that_break(error))
        assert read_json(location) == [{"old": True}]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.json", "2.json"]
    assert bucket.find("/") == ["/out/3.json"]


def test_a_value_that_is_no_json_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not JSON compliant|Out of range"):
        write_json(f"{tmp_path}/1.json", [{"a": float("nan")}])
    assert list(tmp_path.iterdir()) == []


def test_a_link_goes_on_leading_to_the_results(tmp_path: Path) -> None:
    (tmp_path / "latest.json").symlink_to(tmp_path / "1.json")
    write_json(tmp_path / "latest.json", ["new"])
    assert (tmp_path / "latest.json").is_symlink()
    assert json.loads((tmp_path / "1.json").read_text()) == ["new"]


def test_others_may_read_results_as_the_umask_says(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    write_json(f"{tmp_path}/1.json", [])
    assert stat.S_IMODE((tmp_path / "1.json").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


@pytest.mark.parametrize("where", ["file/below/a/file.json", "folder"])
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_asked(
    where: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    asked = []
    with pytest.raises(ConfigurationError, match=r"cannot be written: .* check the path"):
        write_json(f"{tmp_path}/{where}", map(asked.append, [1]))
    assert asked == []
