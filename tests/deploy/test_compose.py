"""docker-compose.yml fits the Compose specification, and what it says exists."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from contracts.settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


def test_fits_the_specification(compose: dict[str, Any]) -> None:
    schema = json.loads((ROOT / "tests/data/compose-spec.json").read_text())
    jsonschema.validate(compose, schema)


def test_has_every_service(compose: dict[str, Any]) -> None:
    assert {"kafka", "clickhouse", "ingress", "streams", "worker", "worker-gpu", "analytics"} <= compose[
        "services"
    ].keys()
    assert {"prometheus", "grafana"} <= compose["services"].keys()
    assert compose["services"]["worker-gpu"]["profiles"] == ["gpu"]


def test_settings_exist(compose: dict[str, Any]) -> None:
    known = {f"MILLRACE_{name.upper()}" for name in Settings.model_fields}
    used = {name for service in compose["services"].values() for name in service.get("environment", {})}
    assert {name for name in used if name.startswith("MILLRACE_")} <= known


def test_dockerfiles_and_volumes_exist(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file()
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert (ROOT / source).is_dir() if source.startswith("./") else source in compose["volumes"]


def test_the_image_copies_every_package() -> None:
    for name in ("Dockerfile", "Dockerfile.vllm"):
        lines = (ROOT / "deploy" / name).read_text().splitlines()
        for package in ("contracts", "ingress", "streams", "inference", "analytics", "millrace"):
            assert f"COPY {package} {package}" in lines
