"""The table of settings, one row each, in the order of contracts/settings.py."""

from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from contracts.settings import Settings
from millrace.stack_settings import StackSettings

SECTIONS = {
    "kafka_": "Kafka",
    "routes_": "Policy files",
    "ingress_": "Ingress",
    "idempotency_": "Streams",
    "worker_": "Workers",
    "clickhouse_": "Analytics",
    "metrics_": "Metrics",
    "log_": "Logs",
}

HEAD = """# Settings

Every service reads the same environment variables. Generated from `contracts/settings.py` by `make docs`.
"""


def settings_table() -> str:
    lines = [HEAD.rstrip()]
    open_section = ""
    for name, field in Settings.model_fields.items():
        section = next((title for start, title in SECTIONS.items() if name.startswith(start)), open_section)
        if section != open_section:
            open_section = section
            lines += _head(section)
        lines.append(_row(name, field))
    lines += _head("The one-machine stack")
    lines += [_row(name, field) for name, field in StackSettings.model_fields.items()]
    return "\n".join(lines) + "\n"


def _head(section: str) -> list[str]:
    return [f"\n## {section}\n", "| variable | default | what it is |", "|---|---|---|"]


def _row(name: str, field: FieldInfo) -> str:
    return f"| `MILLRACE_{name.upper()}` | {_default(field)} | {_about(field)} |"


def _default(field: FieldInfo) -> str:
    return "" if field.default is None else f"`{field.default}`" if field.default != "" else ""


def _about(field: FieldInfo) -> str:
    choices = _choices(field.annotation)
    return f"{field.description}" + (f" ({', '.join(f'`{choice}`' for choice in choices)})" if choices else "")


def _choices(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) is Literal else ()
