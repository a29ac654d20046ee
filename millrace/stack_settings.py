"""Settings of the one-machine stack itself: `MILLRACE_…`, as those of the services."""

import os
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts.errors import ConfigError


class StackSettings(BaseSettings):
    """What `millrace up` needs beyond the services' settings."""

    model_config = SettingsConfigDict(env_prefix="MILLRACE_", frozen=True)

    data_dir: Path = Field(Path(".millrace"), description="everything that the one-machine stack keeps")
    cache_dir: Path | None = Field(
        None,
        description="Kafka's jars, shared by all stacks; `$XDG_CACHE_HOME/millrace` or `~/.cache/millrace` when unset",
    )
    maven_url: str | None = Field(
        None, description="Maven mirror that Kafka's jars come from; Maven Central when unset"
    )
    kafka_port: int = Field(9092, ge=0, le=65535, description="the stack's Kafka; 0 takes a free port")
    kafka_heap_mb: int = Field(512, ge=128, description="the broker's heap; it uses about 200 MB more outside it")
    min_free_disk_mb: int = Field(1024, ge=0, description="with less than this free, the stack doesn't start")
    ready_seconds: float = Field(120.0, gt=0, description="each process must be ready within this")
    stop_seconds: float = Field(30.0, gt=0, description="a process that takes longer to stop is killed")
    restart_first_ms: int = Field(500, ge=1, description="wait before a process that died is started again")
    restart_max_ms: int = Field(30_000, ge=1, description="that wait doubles up to this while it keeps dying")
    restart_healthy_seconds: float = Field(
        30.0, gt=0, description="a process that ran this long is forgiven: its next wait is the first again"
    )

    @property
    def cache(self) -> Path:
        """By the XDG Base Directory Specification unless set. Raises ConfigError for a user without a home."""
        if self.cache_dir:
            return self.cache_dir
        try:
            return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "millrace"
        except RuntimeError:
            raise ConfigError("This user has no home folder: set MILLRACE_CACHE_DIR.") from None
