"""The house rules: the four services meet in Kafka and never import each other; contracts import nothing of ours."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"contracts", "ingress", "streams", "inference", "analytics", "millrace"}
ALLOWED = {
    "contracts": {"contracts"},
    **{service: {service, "contracts"} for service in ("ingress", "streams", "inference", "analytics")},
}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names & OURS


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_imports_only_what_it_may(package: str) -> None:
    wrong = {
        str(path): extra for path in (ROOT / package).rglob("*.py") if (extra := imported(path) - ALLOWED[package])
    }
    assert wrong == {}
