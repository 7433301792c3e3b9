"""Which way imports run, read from the source of every module."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "airflow_provider_speechsense"
ROOT = Path(__file__).parents[2] / PACKAGE

#: Each module may import from those above its own line. A package's name stands for all its modules, which
#: may import one another.
LAYERS = [
    {"exceptions", "get_provider_info", "links"},
    # What is known, and checked without asking anybody.
    {
        "api.models",
        "api.protos",
        "api.metadata",
        "api.audio",
        "api.auth",
        "api.authorized_key",
        "api.redaction",
    },
    # What is decided: pure functions of their arguments.
    {"api.retry", "api.pacing", "api.polling"},
    # Plain Python to messages and back, sources to chunks; and channels.
    {"api.convert", "api.sources", "api.transport"},
    {"api.search", "api.uploads", "api.status", "api.waits"},
    # What to ask for, and performing one call.
    {"api.getting", "api.calls", "api.settings"},
    {"api.client", "api.speechkit", "api.tokens"},
    {"storage", "ledger"},
    {"boundary"},
    {"hooks"},
    {"triggers"},
    {"operators"},
    {"sensors"},
]
#: The emulator stands apart: it speaks the API as the service does, and shares none of the client's checks.
EMULATOR_MAY = {"exceptions", "api.protos", "api.models", "api.audio"}
#: What Airflow's DAG processor must not pay for whenever it reads a DAG.
HEAVY = ("grpc", "google.protobuf", "requests", "pyarrow")

MODULES = sorted(ROOT.rglob("*.py"))
#: Modules that give every name late, and so import nothing when they are imported.
FACADES = {"", "api"}


def dotted(path: Path) -> str:
    """Return a module's name below the package, which itself is ''."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").rstrip(".")


def imported(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield what a module imports anywhere, by full name, and whether it does so for types alone."""
    tree = ast.parse(path.read_text())
    typing_only = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node in typing_only
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            for alias in node.names:
                # ``from package import name`` may mean a module or something in it.
                yield f"{node.module}.{alias.name}", node in typing_only


def ours(path: Path) -> Iterator[str]:
    """Yield the modules of this package that a module imports, by their names below the package."""
    known = {dotted(module) for module in MODULES}
    for name, _ in imported(path):
        if name == PACKAGE or name.startswith(f"{PACKAGE}."):
            below = name.removeprefix(PACKAGE).lstrip(".")
            while below and below not in known:
                below = below.rpartition(".")[0]
            yield below


def layer(module: str) -> int:
    while module:
        for number, members in enumerate(LAYERS):
            if module in members:
                return number
        module = module.rpartition(".")[0]
    raise AssertionError("has no place in LAYERS")


def case(path: Path) -> str:
    return dotted(path) or PACKAGE


layered = [m for m in MODULES if dotted(m) not in FACADES and not dotted(m).startswith("emulator")]


@pytest.mark.parametrize("path", layered, ids=case)
def test_a_module_imports_only_from_layers_above_its_own(path: Path) -> None:
    own = layer(dotted(path))
    package = dotted(path).partition(".")[0]
    for name in ours(path):
        beside = name.partition(".")[0] == package and package != "api"
        assert not name or layer(name) < own or beside, f"{dotted(path)} imports {name}"


@pytest.mark.parametrize("path", [m for m in MODULES if dotted(m).startswith("emulator")], ids=case)
def test_the_emulator_imports_little_of_the_api_and_nothing_else_of_ours(path: Path) -> None:
    for name in ours(path):
        assert not name or name.startswith("emulator") or name in EMULATOR_MAY, f"it imports {name}"


@pytest.mark.parametrize("path", layered, ids=case)
def test_nothing_that_runs_in_airflow_imports_the_emulator(path: Path) -> None:
    assert not any(name.startswith("emulator") for name in ours(path))


without_airflow = [
    m
    for m in MODULES
    if dotted(m).partition(".")[0] in {"", "api", "emulator", "exceptions", "get_provider_info"}
]


@pytest.mark.parametrize("path", without_airflow, ids=case)
def test_the_service_and_the_emulator_know_no_airflow(path: Path) -> None:
    assert not [name for name, _ in imported(path) if name.partition(".")[0] == "airflow"]


# --- what is loaded

in_airflow = [
    f"{PACKAGE}.{dotted(m)}"
    for m in MODULES
    if dotted(m).partition(".")[0] in {"hooks", "operators", "sensors", "triggers", "links"}
]


def loaded_by(*names: str, before: str = "") -> dict[str, list[str]]:
    """Import modules one after another in a fresh process; return what of interest each has added.

    :param before: statements whose own imports do not count
    """
    code = f"""
import importlib, json, sys
{before}
wanted = {{{", ".join(map(repr, (*HEAVY, "airflow")))}}} - sys.modules.keys()
added = {{}}
for name in {names!r}:
    importlib.import_module(name)
    added[name] = sorted(wanted & sys.modules.keys())
    wanted -= sys.modules.keys()
print(json.dumps(added))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT.parent
    )
    assert done.returncode == 0, done.stderr
    added: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return added


def test_importing_the_package_loads_neither_airflow_nor_grpc() -> None:
    names = [PACKAGE, f"{PACKAGE}.api", f"{PACKAGE}.exceptions", f"{PACKAGE}.get_provider_info"]
    assert loaded_by(*names) == {name: [] for name in names}


def test_the_client_loads_no_airflow() -> None:
    name = f"{PACKAGE}.api.client"
    assert loaded_by(name) == {name: ["google.protobuf", "grpc"]}


def test_the_api_offers_what_it_says_and_nothing_more() -> None:
    from airflow_provider_speechsense import api

    assert all(getattr(api, name).__name__ == name for name in api.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Speech'"):
        _ = api.Speech


@pytest.fixture(scope="module")
def added_to_airflow() -> dict[str, list[str]]:
    # What Airflow loads by itself is not ours to answer for.
    airflow = "import airflow.models.dag, airflow.models.baseoperator, airflow.triggers.base"
    return loaded_by(*in_airflow, before=airflow)


@pytest.mark.parametrize("name", in_airflow)
def test_importing_what_dags_import_adds_nothing_heavy(
    name: str, added_to_airflow: dict[str, list[str]]
) -> None:
    assert added_to_airflow[name] == []
