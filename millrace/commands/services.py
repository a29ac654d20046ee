"""The services, each alone, against any Kafka and ClickHouse named in the settings: how production runs them."""

from importlib import import_module


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
    """Write usage to ClickHouse, and answer queries when the engine is embedded."""
    _run("analytics")


def _run(package: str) -> None:
    from contracts.runtime import main  # noqa: PLC0415 - keeps --help fast
    from contracts.settings import Settings  # noqa: PLC0415
    from millrace.load_settings import load  # noqa: PLC0415

    main(import_module(f"{package}.service").run, load(Settings))
