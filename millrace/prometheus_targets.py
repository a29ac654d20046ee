"""`prometheus/targets.json` in the data folder: where Prometheus finds each process of the running stack.

Source: https://prometheus.io/docs/prometheus/latest/configuration/configuration/#file_sd_config
"""

import json
from collections.abc import Mapping
from pathlib import Path

_NAME = Path("prometheus") / "targets.json"


def targets_of(data_dir: Path) -> Path:
    return data_dir / _NAME


def write_targets(data_dir: Path, addresses: Mapping[str, str]) -> Path:
    """`addresses`: host:port by the process's name, `worker-2` say. Atomically: Prometheus reads it when it changes."""
    groups = [
        {"targets": [address], "labels": {"service": name.partition("-")[0], "process": name}}
        for name, address in addresses.items()
    ]
    path = targets_of(data_dir)
    path.parent.mkdir(parents=True, exist_ok=True)
    incoming = path.with_name(".targets.incoming")
    incoming.write_text(json.dumps(groups, indent=2) + "\n")
    incoming.replace(path)
    return path


def remove_targets(data_dir: Path) -> None:
    """A stack that was stopped on purpose isn't down."""
    targets_of(data_dir).unlink(missing_ok=True)
