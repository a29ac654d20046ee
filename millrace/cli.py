"""The `millrace` command. A subcommand is one file in `millrace/commands/` and one line here.

Each imports what it needs when it runs, so that `--help` is instant.
"""

import errno
import logging
import sys

import typer

from contracts.errors import MillraceError
from millrace.commands import (
    cost,
    credit,
    dashboard,
    demo,
    dlq,
    export,
    forget,
    keys,
    limits,
    margin,
    rebuild,
    reconcile,
    replay,
    reprice,
    request,
    route,
    savings,
    services,
    sql,
    top,
    topics,
    up,
)

app = typer.Typer(
    name="millrace",
    help="Durable LLM inference on Kafka: accepted once, answered once, billed once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(demo.demo)
app.command()(up.up)
app.command()(replay.replay)
app.command()(cost.cost)
app.command()(reprice.reprice)
app.command()(credit.credit)
app.command()(savings.savings)
app.command()(margin.margin)
app.command()(forget.forget)
app.command()(request.request)
app.command()(reconcile.reconcile)
app.command()(rebuild.rebuild)
app.command()(sql.sql)
app.command()(dashboard.dashboard)
app.command()(topics.topics)
app.command()(top.top)
app.add_typer(keys.app, name="keys")
app.add_typer(limits.app, name="limits")
app.add_typer(dlq.app, name="dlq")
app.add_typer(export.app, name="export")
app.add_typer(route.app, name="route")
app.command(rich_help_panel="Services, each alone")(services.ingress)
app.command(rich_help_panel="Services, each alone")(services.streams)
app.command(rich_help_panel="Services, each alone")(services.worker)
app.command(rich_help_panel="Services, each alone")(services.analytics)


def main() -> None:
    """What is wrong is one sentence on standard error and exit status 1; a traceback is a bug of ours."""
    logging.getLogger().addHandler(logging.NullHandler())  # libraries are silent until a service sets up its log
    try:
        app()
    except MillraceError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _fail(f"The disk is full: {error.filename or 'nothing more can be written'}.")


def _fail(sentence: str) -> None:
    typer.echo(f"millrace: {sentence}", err=True)
    sys.exit(1)
