"""What every test needs before Airflow is imported: a home of its own, nothing of the caller's settings."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

_HOME = tempfile.mkdtemp(prefix="speechsense-tests-")

# A developer's own Airflow, connections and proxies must not decide what a test sees.
for _name in list(os.environ):
    if _name.startswith(("AIRFLOW_", "_AIRFLOW_")) or _name.lower().endswith("_proxy"):
        del os.environ[_name]

os.environ.update(
    AIRFLOW_HOME=_HOME,
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    # Airflow 3.3 runs only DAGs from here, dag.test() included.
    AIRFLOW__CORE__DAGS_FOLDER=str(Path(__file__).parents[1] / "example_dags"),
    # It would phone home.
    AIRFLOW__USAGE_DATA_COLLECTION__ENABLED="False",
)


def pytest_unconfigure() -> None:
    shutil.rmtree(_HOME, ignore_errors=True)
