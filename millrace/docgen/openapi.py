"""OpenAPI document of the HTTP side, as the running ingress serves it at /openapi.json."""

from typing import Any


def openapi_document() -> dict[str, Any]:
    from ingress.app import openapi_document as of_ingress  # noqa: PLC0415 - the other documents need no web framework

    return of_ingress()
