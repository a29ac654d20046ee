"""What may be asked through the query port: one statement that reads the ledger, and nothing else of this machine.

ClickHouse's own parser writes the statement in its normal form (one statement, no comments, one way of quoting); the
normal form is checked, and the normal form is what runs. `readonly = 1` stands behind this: it stops writes and
settings, but neither `KILL`, `INTO OUTFILE`, `file()` nor `DESCRIBE url(…)`.
"""

import re

from clickhouse_connect.driver.exceptions import DatabaseError

from analytics.clickhouse import Client

READONLY, SYNTAX_ERROR = 164, 62
_NORMAL_FORM = "SELECT formatQuerySingleLine({statement:String})"

_READS = frozenset({"SELECT", "WITH", "SHOW", "DESCRIBE", "EXPLAIN", "EXISTS"})
_FORBIDDEN_WORDS = frozenset({"OUTFILE", "PARALLEL"})  # SELECT … INTO OUTFILE, SELECT … PARALLEL WITH KILL …

# Table functions that only compute, or read tables of this database; every other one (file, url, s3, remote,
# executable, …, and those to come) is refused. `format` and `values` read what is written in the statement itself.
_HARMLESS_SOURCE = re.compile(
    r"format|generaterandom|generateseries|generate_series|merge|null|numbers|numbers_mt|primes|sqlstandardvalues|"
    r"values|view|viewifpermitted|zeros|zeros_mt"
)
_FORBIDDEN_FUNCTION = re.compile(
    r"file|logtrace|showcertificate|ai(generate|translate|classify|extract|embed|filter|redact|similarity)\w*"
)

_TOKEN = re.compile(
    r"""
      '(?:[^'\\]|\\.)*'            # text
    | `(?P<quoted>(?:[^`\\]|\\.)*)`  # quoted name
    | "(?P<double>(?:[^"\\]|\\.)*)"
    | (?P<word>[A-Za-z_]\w*)
    | (?P<open>\()
    | [^\s]
    """,
    re.VERBOSE | re.DOTALL,
)


class Forbidden(Exception):  # noqa: N818 - an answer
    """The statement may not run; `code` is ClickHouse's for that."""

    def __init__(self, message: str, code: int = READONLY) -> None:
        super().__init__(message)
        self.code = code


def normal_form(client: Client, statement: str) -> str:
    """Blocking. Raises Forbidden when it isn't exactly one statement that parses."""
    try:
        rows = client.query(_NORMAL_FORM, parameters={"statement": statement}).result_rows
    except DatabaseError as error:
        text = str(error).partition("DB::Exception: ")[2].partition(": In scope SELECT formatQuery")[0]
        raise Forbidden(text or str(error), error.code or SYNTAX_ERROR) from None
    return str(rows[0][0])


def table_functions(client: Client) -> frozenset[str]:
    """Blocking: the names that this engine knows, in lower case."""
    rows = client.query("SELECT lower(name) FROM system.table_functions").result_rows
    return frozenset(row[0] for row in rows)


def check(normal: str, sources: frozenset[str]) -> None:
    """`normal`: a statement in normal form; `sources`: from table_functions(). Raises Forbidden."""
    tokens = _tokens(normal)
    first = next((word for word, quoted, _ in tokens if not quoted), "").upper()
    if first not in _READS:
        raise Forbidden("Only statements that read are allowed here: SELECT, WITH, SHOW, DESCRIBE, EXPLAIN, EXISTS.")
    for word, quoted, called in tokens:
        if not quoted and word.upper() in _FORBIDDEN_WORDS:
            raise Forbidden(f"{word.upper()} is not allowed here.")
        if called and not _may_call(word.lower(), sources):
            raise Forbidden(f"Function {word} is not allowed here: statements read the ledger and nothing else.")


def _may_call(name: str, sources: frozenset[str]) -> bool:
    if _FORBIDDEN_FUNCTION.fullmatch(name):
        return False
    return name not in sources or _HARMLESS_SOURCE.fullmatch(name) is not None


def _tokens(normal: str) -> list[tuple[str, bool, bool]]:
    """Names and words, in order: (text, whether it was quoted, whether a parenthesis follows)."""
    found = list(_TOKEN.finditer(normal))
    following = [*found, None][1:]
    return [
        (name, token["word"] is None, bool(after and after["open"]))
        for token, after in zip(found, following, strict=True)
        if (name := token["word"] or token["quoted"] or token["double"])
    ]
