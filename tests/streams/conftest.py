import pytest

from contracts.settings import Settings
from tests.streams.world import World


@pytest.fixture
def world() -> World:
    return World(Settings(request_partitions=1, tenant_partitions=1))
