"""`MILLRACE_TENANT_WEIGHTS`: how much more than others a tenant gets while several want more than there is."""

from contracts.errors import ConfigError


def parse_weights(text: str) -> dict[str, float]:
    """`acme=3,globex=0.5`. Raises ConfigError."""
    weights: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        tenant, _, weight = part.partition("=")
        try:
            weights[tenant.strip()] = float(weight)
        except ValueError:
            weights[tenant.strip()] = 0.0
        if not weights[tenant.strip()] > 0:
            raise ConfigError(f"MILLRACE_TENANT_WEIGHTS: {part!r} isn't tenant=weight with a weight above 0.")
    return weights
