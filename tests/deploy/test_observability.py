"""Alerts and dashboards ask for metrics that there are, by labels that these have, in PromQL that Prometheus takes."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from contracts.metrics import ALL
from tests.support.promql import names_in

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARDS = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
KNOWN = {series: metric for metric in ALL.values() for series in metric.series}
OF_TARGETS = {"job", "instance", "service", "process"}
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool isn't installed")


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", ())


def expressions() -> list[tuple[str, str]]:
    found = [(rule["alert"], rule["expr"]) for rule in alerts()]
    for path in DASHBOARDS:
        dashboard = json.loads(path.read_text())
        for panel in panels(dashboard):
            found += [(f"{path.stem}: {panel['title']}", target["expr"]) for target in panel.get("targets", ())]
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                found.append((f"{path.stem}: ${variable['name']}", variable["query"]["query"]))
    return found


def plain(expression: str) -> str:
    """Without what Grafana puts in."""
    values = re.fullmatch(r"label_values\((.+), *\w+\)", expression)
    text = values[1] if values else expression
    return re.sub(r"\$\w+", "x", text.replace("$__rate_interval", "5m").replace("$__range", "1h"))


@pytest.mark.parametrize(("where", "expression"), expressions())
def test_every_query_names_what_there_is(where: str, expression: str) -> None:
    named = names_in(plain(expression))
    asked = named.metrics - {"up"}
    assert asked <= KNOWN.keys(), (where, asked - KNOWN.keys())
    labels = {label for series in asked for label in KNOWN[series].labels} | {"le"} | OF_TARGETS
    assert named.labels <= labels, (where, named.labels - labels)


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_says_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"].keys() == {"summary", "description"}


@needs_promtool
@pytest.mark.parametrize("name", ["prometheus.yml", "one-machine.yml"])
def test_prometheus_takes_the_configuration(name: str) -> None:
    subprocess.run(["promtool", "check", "config", PROMETHEUS / name], check=True, capture_output=True)


@needs_promtool
def test_prometheus_takes_every_query(tmp_path: Path) -> None:
    rules = [{"record": f"q:{n}", "expr": plain(text)} for n, (_, text) in enumerate(expressions())]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    checked = subprocess.run(["promtool", "check", "rules", path], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@needs_promtool
def test_each_alert_fires_on_its_fault_and_on_nothing_else() -> None:
    cases = Path(__file__).parent / "alert_cases.yml"
    tested = subprocess.run(["promtool", "test", "rules", cases], capture_output=True, check=False)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    expected = {
        test["alertname"] for case in yaml.safe_load(cases.read_text())["tests"] for test in case["alert_rule_test"]
    }
    assert expected == {rule["alert"] for rule in alerts()}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_whole(path: Path) -> None:
    dashboard = json.loads(path.read_text())
    assert dashboard["uid"] == f"millrace-{path.stem}"
    assert (dashboard["schemaVersion"], dashboard["id"]) == (39, None)
    shown = list(panels(dashboard))
    assert len({panel["id"] for panel in shown}) == len(shown)
    taken: set[tuple[int, int]] = set()
    for panel in shown:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not taken & cells, panel["title"]
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["description"], panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "millrace"}
        assert [target["refId"] for target in panel["targets"]] == list("ABCDEF"[: len(panel["targets"])])
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]


def test_the_dashboards_are_provisioned() -> None:
    provisioning = ROOT / "deploy" / "grafana" / "provisioning"
    [source] = yaml.safe_load((provisioning / "datasources" / "millrace.yml").read_text())["datasources"]
    assert (source["type"], source["uid"], source["url"]) == ("prometheus", "millrace", "http://prometheus:9090")
    [provider] = yaml.safe_load((provisioning / "dashboards" / "millrace.yml").read_text())["providers"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    mounts = [volume.split(":")[:2] for volume in compose["services"]["grafana"]["volumes"]]
    assert ["./deploy/grafana/dashboards", provider["options"]["path"]] in mounts
    assert DASHBOARDS


def test_prometheus_is_provisioned() -> None:
    """It runs by the configuration that is tested above, whose rules lie beside it, and asks all services' ports."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    volumes = dict(volume.split(":")[:2] for volume in compose["prometheus"]["volumes"])
    assert f"--config.file={volumes['./deploy/prometheus']}/prometheus.yml" in compose["prometheus"]["command"]
    assert all((PROMETHEUS / name).exists() for name in config["rule_files"])
    asked = {name for job in config["scrape_configs"] for dns in job["dns_sd_configs"] for name in dns["names"]}
    assert asked == {name for name, service in compose.items() if service.get("command") in SERVICES}


SERVICES = (["ingress"], ["streams"], ["worker"], ["analytics"])
