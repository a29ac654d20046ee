"""A real Prometheus, for tests: the shipped configuration with shorter patience, and its answers."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import yaml

from millrace.ports import free_port

DEPLOY = Path(__file__).parents[2] / "deploy"
DEADLINE_SECONDS = 90.0
_POLL_SECONDS = 0.25


class Prometheus:
    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """An instant query's series."""
        answer = await self._http.get("/api/v1/query", params={"query": expression})
        found = answer.json()
        assert found["status"] == "success", (expression, found)
        result = found["data"]["result"]
        if found["data"]["resultType"] == "scalar":
            return [({}, float(result[1]))]
        return [(series["metric"], float(series["value"][1])) for series in result]

    async def value(self, expression: str) -> float:
        """Of a query with one series; 0 when there is none."""
        found = await self.query(expression)
        assert len(found) <= 1, found
        return found[0][1] if found else 0.0

    async def firing(self, alert: str) -> list[dict[str, str]]:
        return [labels for labels, _ in await self.query(f'ALERTS{{alertname="{alert}", alertstate="firing"}}')]

    async def until(self, true: Callable[[], Awaitable[bool]]) -> None:
        """Asks again and again. Raises TimeoutError past the deadline."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not await true():  # noqa: ASYNC110 - other processes set no event of ours
                await asyncio.sleep(_POLL_SECONDS)


@asynccontextmanager
async def running(binary: str, folder: Path, targets: Path) -> AsyncIterator[Prometheus]:
    """It scrapes every second or two, and its alerts don't wait before they fire."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        binary,
        f"--config.file={_configure(folder, targets)}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
            prometheus = Prometheus(http)
            await prometheus.until(lambda: _is_ready(http))
            yield prometheus
    finally:
        process.kill()
        await process.wait()


def _configure(folder: Path, targets: Path) -> Path:
    config = yaml.safe_load((DEPLOY / "prometheus" / "one-machine.yml").read_text())
    config["global"] = {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "1s"}
    config["scrape_configs"][0]["file_sd_configs"] = [{"files": [str(targets)], "refresh_interval": "1s"}]
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule.pop("for", None)
    (folder / "alerts.yml").write_text(yaml.safe_dump(rules))
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    return path


async def _is_ready(http: httpx.AsyncClient) -> bool:
    with suppress(httpx.TransportError):
        return (await http.get("/-/ready")).status_code == httpx.codes.OK
    return False


def panel_queries(within: str) -> list[tuple[str, str]]:
    """Of every dashboard: panel and query, rates being taken within that time."""
    found = []
    for path in sorted((DEPLOY / "grafana" / "dashboards").glob("*.json")):
        dashboard: dict[str, Any] = json.loads(path.read_text())
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                text = target["expr"].replace("$__rate_interval", within).replace("$model", ".*")
                found.append((f"{path.stem}: {panel['title']}", text))
    return found
