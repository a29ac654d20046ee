"""What ends this process at once: it starts again from what Kafka has, and nobody is any the wiser."""


class Fatal(Exception):  # noqa: N818 - not an error that anybody handles
    """A delivery failed, the disk failed, or another process owns what this one writes."""


class StoreFailed(Fatal):
    """RocksDB can't be read or written."""


class Fenced(Fatal):
    """Another process has taken over a partition of a table."""
