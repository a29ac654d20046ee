"""Settings for commands: from the environment, with the running stack's addresses where nothing else is named."""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from contracts.errors import ConfigError
from contracts.faults import first_fault
from contracts.settings import Settings
from millrace.stack_file import connected_settings
from millrace.stack_settings import StackSettings

S = TypeVar("S", bound=BaseSettings)


def load(settings: type[S], **given: Any) -> S:
    """Raises ConfigError naming the variable that doesn't fit."""
    try:
        return settings(**given)
    except ValidationError as error:
        where, what = first_fault(error)
        raise ConfigError(f"MILLRACE_{where.replace('.', '_').upper()}: {what}.") from None


def load_stack_settings(data_dir: Path | None = None) -> StackSettings:
    """From the environment, but for the folder when one is given. Raises ConfigError."""
    return load(StackSettings, data_dir=data_dir) if data_dir else load(StackSettings)


def load_connected_settings(data_dir: Path | None = None) -> Settings:
    """Of the stack that runs on the data folder, or of the Kafka that the environment names. Raises ConfigError."""
    return connected_settings(load_stack_settings(data_dir).data_dir, load(Settings))
