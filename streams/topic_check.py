"""Before anything runs: every topic is there, with the partitions that keys and tables are spread over."""

from aiokafka.cluster import ClusterMetadata

from contracts.catalogue import Catalogue
from contracts.errors import ConfigError
from contracts.settings import Settings
from contracts.topics import all_topics


def check_topics(cluster: ClusterMetadata, settings: Settings, catalogue: Catalogue) -> dict[str, int]:
    """Every topic of ours and its partitions. Raises ConfigError naming what is wrong."""
    found = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in cluster.topics()}
    wanted = {spec.name: spec.partitions for spec in all_topics(settings, catalogue)}
    missing = sorted(wanted.keys() - found.keys())
    if missing:
        raise ConfigError(f"Kafka has no topic {', '.join(missing)}: create the topics before the services start.")
    for topic, count in wanted.items():
        if found[topic] != count:
            raise ConfigError(
                f"Topic {topic} has {found[topic]} partitions but the settings ask for {count}: set the number back, "
                "or use another topic prefix."
            )
    return wanted
