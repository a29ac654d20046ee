"""ClickHouse's HTTP interface, reading side: from a request to a query, and from an error to a response.

https://clickhouse.com/docs/interfaces/http
"""

import base64
import binascii
import re
import secrets
from collections.abc import Mapping
from email import message_from_bytes
from email.message import Message
from http import HTTPStatus

from starlette.requests import Request

from analytics.query_engine import Options, Query
from analytics.read_only import READONLY

# ClickHouse's codes, https://github.com/ClickHouse/ClickHouse/blob/master/src/Common/ErrorCodes.cpp
BAD_ARGUMENTS, NOT_IMPLEMENTED, TOO_MANY_QUERIES, TOO_BIG, INTERNAL = 36, 48, 202, 307, 1001
REQUIRED_PASSWORD, AUTHENTICATION_FAILED = 194, 516
_STATUS = {
    REQUIRED_PASSWORD: HTTPStatus.UNAUTHORIZED,
    AUTHENTICATION_FAILED: HTTPStatus.FORBIDDEN,
    READONLY: HTTPStatus.FORBIDDEN,
    TOO_BIG: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    TOO_MANY_QUERIES: HTTPStatus.SERVICE_UNAVAILABLE,
    NOT_IMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
    159: HTTPStatus.REQUEST_TIMEOUT,
} | dict.fromkeys((46, 47, 60, 81, 115), HTTPStatus.NOT_FOUND)
_BAD_REQUEST = frozenset({BAD_ARGUMENTS, 6, 26, 27, 38, 41, 42, 43, 53, 62, 70, 72, 73, 117, 456, 457})

MAX_STATEMENT_BYTES = 1 << 20

# Of the transport, or about inserts and sessions: they mean nothing here.
_IGNORED = re.compile(
    r"add_http_cors_header|buffer_size|cancel_http_readonly_queries_on_client_close|client_protocol_version|"
    r"cast_string_to_dynamic_use_inference|compress|database|date_time_input_format|decompress|default_format|"
    r"enable_http_compression|http_\w+|log_comment|log_queries|password|query|query_id|quota_key|readonly|role|"
    r"send_progress_in_http_headers|session_(check|id|timeout)|stacktrace|user|wait_end_of_query|param_\w+"
)
# Settings that change how an answer looks or lessen what it may cost; none that reads or writes files.
_ALLOWED = re.compile(
    r"output_format_(arrow|csv|decimal|json|native|parquet|pretty|tsv)_\w+|date_time_output_format|extremes|"
    r"join_use_nulls|max_(execution_time|memory_usage|result_bytes|result_rows|rows_to_read|bytes_to_read|block_size)|"
    r"session_timezone|limit|offset|use_query_cache|prefer_column_name_to_alias"
)


class BadQuery(Exception):  # noqa: N818 - an answer
    """What is wrong with the request, with ClickHouse's code for it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def status_of(code: int) -> HTTPStatus:
    """As ClickHouse's server answers it."""
    if code in _BAD_REQUEST:
        return HTTPStatus.BAD_REQUEST
    return _STATUS.get(code, HTTPStatus.INTERNAL_SERVER_ERROR)


def authenticate(request: Request, password: str) -> None:
    """By Basic authentication, X-ClickHouse-Key or the password parameter; any user name. Raises BadQuery."""
    given = _basic(request) or request.headers.get("x-clickhouse-key") or request.query_params.get("password")
    if given is None:
        raise BadQuery(REQUIRED_PASSWORD, "A password is needed: Basic authentication, or header X-ClickHouse-Key")
    if not secrets.compare_digest(given.encode(), password.encode()):
        raise BadQuery(AUTHENTICATION_FAILED, "Authentication failed: the password is not the right one")


def _basic(request: Request) -> str | None:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


async def read_query(request: Request) -> Query | None:
    """None when nothing is asked. Raises BadQuery."""
    body = await _body(request)
    fields = dict(request.query_params)
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        fields |= _form(request.headers["content-type"], body)
        body = b""
    try:
        statement = "\n".join(part for part in (fields.get("query", ""), body.decode()) if part.strip())
    except UnicodeDecodeError:
        raise BadQuery(BAD_ARGUMENTS, "A statement is text in UTF-8") from None
    if not statement:
        return None
    form = fields.get("default_format") or request.headers.get("x-clickhouse-format")
    if form and not re.fullmatch(r"\w+", form):
        raise BadQuery(BAD_ARGUMENTS, "default_format is the name of a format")
    return Query(
        statement=statement,
        format=form,
        database=fields.get("database") or request.headers.get("x-clickhouse-database"),
        parameters={name[6:]: value for name, value in fields.items() if name.startswith("param_")},
        options=_options(fields),
    )


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_STATEMENT_BYTES:
            raise BadQuery(TOO_BIG, f"A statement is at most {MAX_STATEMENT_BYTES} bytes long")
    return bytes(body)


def _form(content_type: str, body: bytes) -> dict[str, str]:
    """clickhouse-connect sends long parameters as a form."""
    message = message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    fields: dict[str, str] = {}
    for part in message.get_payload() if message.is_multipart() else ():
        assert isinstance(part, Message)
        name, content = part.get_param("name", header="content-disposition"), part.get_payload(decode=True)
        if part.get_filename() or not isinstance(name, str) or not isinstance(content, bytes):
            raise BadQuery(NOT_IMPLEMENTED, "External data is not taken here")
        fields[name] = content.decode()
    return fields


def _options(fields: Mapping[str, str]) -> Options:
    if fields.get("compress", "0") not in ("0", "false"):
        raise BadQuery(NOT_IMPLEMENTED, "compress=1 is not spoken here; ask without it")
    rest = {name: value for name, value in fields.items() if not _IGNORED.fullmatch(name)}
    for name in rest:
        if not _ALLOWED.fullmatch(name):
            raise BadQuery(READONLY, f"Cannot modify '{name}' setting in readonly mode")
    return tuple(sorted(rest.items()))
