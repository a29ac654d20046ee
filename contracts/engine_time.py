"""What an engine's GPUs did with a stretch of time, told by its worker on `engine-time`.

The stretches of a worker follow each other without a gap, so their sum is the time that its GPUs were paid for:
`wall_us = idle_us + shared_us + what under_way_us has grown by`.
"""

from pydantic import BaseModel, ConfigDict, Field

HOUR_US = 3_600_000_000


class EngineTime(BaseModel):
    """JSON value; the key is the model. `_us` is microseconds of one engine, `_nano` nano-dollars of all its GPUs."""

    model_config = ConfigDict(frozen=True)

    worker: str = Field(min_length=1, description="names this process; a new start has another name")
    model: str = Field(min_length=1)
    model_version: str = ""
    engine: str = ""
    sequence: int = Field(ge=0, description="of this worker's stretches for this model, from 0")
    last: bool = Field(False, description="the worker has left; one that ends without this was killed")
    since: int = Field(description="UTC ms")
    until: int = Field(description="UTC ms; where the next stretch begins")
    every_ms: int = Field(ge=1, description="how long stretches are: what a killed worker leaves untold at most")
    gpus: int = Field(ge=0, description="GPUs that the engine holds")
    gpu_hour_nano: int = Field(ge=0, description="what one of them costs an hour")
    wall_us: int = Field(ge=0)
    idle_us: int = Field(ge=0, description="nothing ran; loading the model counts, too")
    shared_us: int = Field(ge=0, description="charged to requests that left the engine in this stretch")
    under_way_us: int = Field(
        ge=0, description="at its end, of requests that were still running: charged when they leave"
    )
    idle_nano: int = Field(ge=0)
    shared_nano: int = Field(ge=0)
    requests: int = Field(0, ge=0, description="left the engine, however they ended")
    prompt_tokens: int = Field(0, ge=0, description="computed; those that the prefix cache had are not among them")
    completion_tokens: int = Field(0, ge=0, description="computed")
    seat_us: int = Field(0, ge=0, description="time in the engine of all requests; by busy time: the mean batch")
    most_running: int = Field(0, ge=0, description="requests at once")
