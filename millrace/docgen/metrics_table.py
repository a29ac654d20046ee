"""The table of metrics, by service, in the order of contracts/metrics.py."""

from contracts.metrics import SERVICES, Metric

HEAD = """# Metrics

Each process serves them at its own port, `GET /metrics` ([how](../observability.md#metrics)). Generated from
`contracts/metrics.py` by `make docs`. Those whose labels have known values are there from the start, at 0.
"""


def metrics_table() -> str:
    lines = [HEAD.rstrip()]
    for service, metrics in SERVICES.items():
        lines += [
            f"\n## {service.capitalize()}\n",
            "| metric | type | unit | labels | what it is |",
            "|---|---|---|---|---|",
        ]
        lines += [_row(metric) for metric in metrics]
    lines += ["\n## Buckets\n", "| metric | upper bounds |", "|---|---|"]
    every = {metric.name: metric for metrics in SERVICES.values() for metric in metrics}
    lines += [_buckets(metric) for metric in every.values() if metric.buckets]
    return "\n".join(lines) + "\n"


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {metric.unit} | {labels} | {metric.help} |"


def _buckets(metric: Metric) -> str:
    return f"| `{metric.name}` | {', '.join(f'{bound:g}' for bound in metric.buckets)} |"
