"""`millrace dashboard`: the web page alone, beside a running stack or over a Kafka and a ClickHouse elsewhere."""

# ruff: noqa: PLC0415 - keeps --help fast

from functools import partial, update_wrapper

from millrace.commands.options import DataDir


def dashboard(data_dir: DataDir = None) -> None:
    """Serve the dashboard alone (analytics serves it too): flow, cost, latency, requests, limits, dead letters."""
    from analytics.dashboard.service import run
    from contracts.runtime import main
    from millrace.desk import OperatorDesk
    from millrace.ledger_client import ledger_address
    from millrace.load_settings import load_connected_settings

    settings = ledger_address(load_connected_settings(data_dir), data_dir)
    main(update_wrapper(partial(run, desk=OperatorDesk(settings)), run), settings)
