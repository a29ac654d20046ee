"""What Kafka is told to keep of each topic."""

import pytest

from contracts.catalogue import load_catalogue
from contracts.settings import Settings
from contracts.topics import REQUEST_TABLE, TENANT_TABLE, Topics, all_topics

HOUR_MS = 3_600_000


def config(settings: Settings, name: str) -> dict[str, str]:
    [spec] = [spec for spec in all_topics(settings, load_catalogue()) if spec.name == name]
    return dict(spec.config)


@pytest.mark.parametrize("hours", [{}, {"idempotency_window_hours": 300}, {"retention_hours": 200}])
def test_changelogs_are_compacted_and_that_of_requests_is_trimmed_beyond_what_it_holds(hours: dict[str, int]) -> None:
    settings = Settings(**hours)
    topics = Topics.of(settings)
    requests, tenants = (config(settings, topics.changelog(table)) for table in (REQUEST_TABLE, TENANT_TABLE))
    assert (requests["cleanup.policy"], tenants["cleanup.policy"]) == ("compact,delete", "compact")
    held_ms = max(settings.idempotency_window_hours, settings.retention_hours) * HOUR_MS
    assert held_ms < int(requests["retention.ms"]) <= held_ms + 72 * HOUR_MS
    for changelog in (requests, tenants):
        assert int(changelog["segment.bytes"]) <= 2**25  # Kafka compacts no segment that it still writes to
        assert int(changelog["max.compaction.lag.ms"]) <= 12 * HOUR_MS


def test_what_is_read_from_its_beginning_is_never_trimmed() -> None:
    settings = Settings()
    topics = Topics.of(settings)
    for name in (topics.limits, topics.api_keys, topics.routes, topics.dead_letters_handled):
        assert config(settings, name)["cleanup.policy"] == "compact"
