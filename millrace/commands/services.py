"""The services, each alone, against any Kafka and ClickHouse named in the settings: how production runs them."""

# ruff: noqa: PLC0415 - keeps --help fast

from functools import partial, update_wrapper
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contracts.settings import Settings


def ingress() -> None:
    """Serve the HTTP API."""
    _run("ingress")


def streams() -> None:
    """Run dedupe, meter, route and settle."""
    _run("streams")


def worker() -> None:
    """Run models over the work topics."""
    _run("inference")


def analytics() -> None:
    """Write usage to ClickHouse, answer queries when the engine is embedded, and serve the dashboard."""
    from millrace.desk import OperatorDesk

    settings = _settings()
    _run("analytics", settings, desk=OperatorDesk(settings))


def _run(package: str, settings: "Settings | None" = None, **given: Any) -> None:
    from contracts.runtime import main

    run = import_module(f"{package}.service").run
    main(update_wrapper(partial(run, **given), run), settings or _settings())


def _settings() -> "Settings":
    from contracts.settings import Settings
    from millrace.load_settings import load

    return load(Settings)
