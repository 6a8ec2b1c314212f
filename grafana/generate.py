"""Write the Grafana dashboards and alert rules from the table of metrics.

    python grafana/generate.py

writes ``dashboards/*.json`` and ``provisioning/alerting/rules.yaml`` beside this file. They are committed, and a test
compares them with what this script gives. The script needs ``grafana-foundation-sdk``; Grafana does not.

Grafana 7.5 and every later version can open the dashboards. Three rules follow from this. A query is a plain Graphite
target that names its data source by uid. A panel names no data source, because 7.5 takes only names there; the
provisioned data source is the default. Panel types, options and transformations are those that 7.5 has.

An alert rule contains no ``$`` but in the address of its runbook, which begins with the environment variable
``EMOTION_AIRFLOW_URL``: Grafana replaces it. Graphite's functions therefore do
the arithmetic, and Grafana only reduces the result and compares it with a threshold.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "plugins")]
warnings.filterwarnings("ignore", category=DeprecationWarning, module="grafana_foundation_sdk")

from boards import DASHBOARDS  # noqa: E402
from rules import rules_file  # noqa: E402


def generate() -> dict[str, str]:
    """The files: name relative to this folder → content."""
    dashboards = {name: build() for name, build in DASHBOARDS.items()}
    files = {f"dashboards/{name}.json": json.dumps(board, indent=1) + "\n" for name, board in dashboards.items()}
    notice = "# Written by generate.py from alerts.py. Edit that file, not this one.\n"
    rules = yaml.safe_dump(rules_file(dashboards), sort_keys=False, width=110, allow_unicode=True)
    return files | {"provisioning/alerting/rules.yaml": notice + rules}


def main() -> None:
    for name, content in generate().items():
        file = HERE / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        print(name)


if __name__ == "__main__":
    main()
