"""The document that /docs shows and docs/ keeps."""

from typing import Any

import pytest

from ingress.app import openapi_document


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi_document()


def test_every_route_is_there(document: dict[str, Any]) -> None:
    assert {(method, path) for path, methods in document["paths"].items() for method in methods} == {
        ("post", "/v1/chat/completions"),
        ("post", "/v1/completions"),
        ("get", "/v1/requests/{key}"),
        ("get", "/v1/requests/{key}/events"),
        ("delete", "/v1/requests/{key}"),
        ("post", "/v1/requests/{key}/feedback"),
        ("get", "/v1/models"),
        ("get", "/v1/models/{id}"),
        ("get", "/healthz"),
        ("get", "/readyz"),
    }


def test_bodies_are_the_contracts(document: dict[str, Any]) -> None:
    body = document["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/ChatCompletionRequest"}
    assert "messages" in document["components"]["schemas"]["ChatCompletionRequest"]["required"]


def test_our_headers_and_errors_are_documented(document: dict[str, Any]) -> None:
    operation = document["paths"]["/v1/chat/completions"]["post"]
    names = {parameter["name"] for parameter in operation["parameters"]}
    assert {"idempotency-key", "prefer", "millrace-user", "millrace-max-cost", "millrace-on-disconnect"} <= names
    assert operation["security"] == [{"HTTPBearer": []}]
    assert set(operation["responses"]) == {"200", "202", "4XX", "5XX"}


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if "$ref" in node else []
            return own + [found for value in node.values() for found in references(value)]
        return [found for value in node for found in references(value)] if isinstance(node, list) else []

    schemas = document["components"]["schemas"]
    assert all(reference.rpartition("/")[2] in schemas for reference in references(document))
