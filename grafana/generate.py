"""Write the Grafana dashboards and alert rules from the table of metrics.

    python grafana/generate.py

writes ``dashboards/*.json`` and ``provisioning/alerting/rules.yaml`` beside this file; they are committed,
and a test regenerates and compares them. Needs ``grafana-foundation-sdk``; Grafana itself does not.

The dashboards open in Grafana 7.5 and in every later one, hence: a query is a plain Graphite target that
names its data source by uid, a panel names none (7.5 takes only names there) and the provisioned data source
is the default; only panel types, options and transformations that 7.5 has are used. An alert rule has no
``$`` in it, which Grafana would take for an environment variable: Graphite's functions do the arithmetic,
and reduce and threshold what is left.
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
    """File name below this folder → content."""
    dashboards = {name: build() for name, build in DASHBOARDS.items()}
    files = {f"dashboards/{name}.json": json.dumps(board, indent=1) + "\n" for name, board in dashboards.items()}
    notice = "# Written by generate.py from the table of metrics. Edit that, not this.\n"
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
