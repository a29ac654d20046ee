"""What was billed beside what the GPUs cost, by tenant and model, and where the rest of their cost is. Nano-dollars.

The parts of a model's GPU cost add up to its GPU-hours by their rate: what requests and wasted runs were charged with,
idle time, what was under way, and what no outcome has told of. Blocking.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from analytics.clickhouse import Client
from analytics.questions import Question, utc_ms

_MEASURES = {
    "requests": "sumIf(n, kind = 'usage')",
    "billed_nano": "sumIf(n_nano, kind != 'waste')",
    "gpu": "sumIf(n_gpu_nano, kind NOT IN ('waste', 'shadow'))",
    "waste_runs": "sumIf(n, kind = 'waste')",
    "waste_gpu": "sumIf(n_gpu_nano, kind = 'waste')",
    "shadow_runs": "sumIf(n, kind = 'shadow')",
    "shadow_gpu": "sumIf(n_gpu_nano, kind = 'shadow')",
}
_SINCE, _UNTIL = (f"fromUnixTimestamp64Milli({{{name}:Int64}}, 'UTC')" for name in ("since", "until"))
_STRETCHES = f"""
SELECT
    model, toInt64(sum(wall_us * gpus)) AS gpu_us,
    toInt64(intDiv(sum(toInt128(wall_us) * gpus * gpu_hour_nano), 3600000000)) AS gpu_nano,
    sum(t.idle_nano) AS idle_nano, sum(t.shared_nano) AS shared_nano
FROM engine_time AS t FINAL
WHERE since >= {_SINCE} AND since < {_UNTIL}
GROUP BY model ORDER BY model
"""  # noqa: S608 - our own words
# A worker that has told no last stretch, and nothing for three stretches' time, was killed.
_KILLED = f"""
SELECT model, count() AS workers, sum(most_us) AS untold_us, sum(most_nano) AS untold_nano
FROM
(
    SELECT
        model, max(until) AS told, max(last) AS left, max(every_ms) AS every,
        toInt64(every) * 1000 * argMax(gpus, sequence) AS most_us,
        toInt64(intDiv(toInt128(most_us) * argMax(gpu_hour_nano, sequence), 3600000000)) AS most_nano
    FROM engine_time FINAL
    WHERE since >= {_SINCE}
    GROUP BY worker, model
)
WHERE NOT left AND told < {_UNTIL} AND told < now64(3) - toIntervalMillisecond(3 * every)
GROUP BY model
"""  # noqa: S608


class Part(StrEnum):
    """Of a model's GPU cost."""

    REQUESTS = "requests"  # a tenant's
    WASTE = "waste"  # a tenant's second runs after crashes
    SHADOW = "shadow"  # other models' runs of a tenant's requests, to compare
    IDLE = "idle"  # nothing ran, or the model was being loaded
    UNDER_WAY = "under way"  # of requests that run on after the period, less what the time before it had left
    UNTOLD = "no outcome"  # runs whose outcome lies in another period, or that were lost with their worker


@dataclass(frozen=True, slots=True)
class MarginLine:
    """A tenant's requests or waste with a model; or, without a tenant, what is nobody's of that model's GPUs."""

    tenant: str
    model: str
    part: Part
    requests: int
    billed_nano: int
    gpu_nano: int

    @property
    def margin_nano(self) -> int:
        return self.billed_nano - self.gpu_nano


@dataclass(frozen=True, slots=True)
class GpuTime:
    """One model's engines: GPU time and its cost. `untold`: at most so much more went by in killed workers."""

    model: str
    gpu_us: int
    gpu_nano: int
    killed_workers: int
    untold_us: int
    untold_nano: int


@dataclass(frozen=True, slots=True)
class Margin:
    """`lines` that have GPUs of ours add up to `gpus`."""

    lines: list[MarginLine]
    gpus: list[GpuTime]


@dataclass(frozen=True, slots=True)
class MarginReport:
    """Half-open: [since, until). Requests count by when their outcome was recorded, GPU time by when it began."""

    since: datetime
    until: datetime

    def run(self, client: Client) -> Margin:
        """Raises ClickHouseError."""
        lines = list(self._tenants(client))
        killed = {row[0]: row[1:] for row in self._ask(client, _KILLED)}
        gpus = []
        for model, gpu_us, gpu_nano, idle_nano, shared_nano in self._ask(client, _STRETCHES):
            charged = sum(line.gpu_nano for line in lines if line.model == model and line.tenant)
            gpus.append(GpuTime(model, gpu_us, gpu_nano, *killed.get(model, (0, 0, 0))))
            rest = {
                Part.IDLE: idle_nano,
                Part.UNDER_WAY: gpu_nano - idle_nano - shared_nano,
                Part.UNTOLD: shared_nano - charged,
            }
            lines += [MarginLine("", model, part, 0, 0, nano) for part, nano in rest.items() if nano]
        return Margin(lines, gpus)

    def _tenants(self, client: Client) -> Iterator[MarginLine]:
        statement, parameters = Question(("tenant", "model"), self.since, self.until).sql(_MEASURES, "billed_nano DESC")
        for tenant, model, requests, billed, gpu, *others in client.query(statement, parameters=parameters).result_rows:
            if requests or billed or gpu:
                yield MarginLine(tenant, model, Part.REQUESTS, requests, billed, gpu)
            waste_runs, waste_gpu, shadow_runs, shadow_gpu = others
            if waste_runs:
                yield MarginLine(tenant, model, Part.WASTE, waste_runs, 0, waste_gpu)
            if shadow_runs:
                yield MarginLine(tenant, model, Part.SHADOW, shadow_runs, 0, shadow_gpu)

    def _ask(self, client: Client, statement: str) -> list[Any]:
        bounds = {"since": utc_ms(self.since), "until": utc_ms(self.until)}
        return list(client.query(statement, parameters=bounds).result_rows)
