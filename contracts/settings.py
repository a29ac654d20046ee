"""Every setting of every service: environment variables `MILLRACE_…`, a default, a unit in the name, one line why."""

from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts.envelope import OnDisconnect
from contracts.money import Dollars

EngineName = Literal["synthetic", "openai", "vllm"]


class Settings(BaseSettings):
    """Read once at start. The table in docs/settings.md is generated from this class."""

    model_config = SettingsConfigDict(env_prefix="MILLRACE_", frozen=True, extra="forbid")

    # Kafka
    kafka_bootstrap_servers: str = Field("127.0.0.1:9092", description="Kafka brokers, host:port, comma-separated")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="how every client talks to the brokers"
    )
    kafka_ssl_cafile: Path | None = Field(None, description="CA certificates (PEM) that sign the brokers' certificates")
    kafka_ssl_certfile: Path | None = Field(None, description="client certificate (PEM), for mutual TLS")
    kafka_ssl_keyfile: Path | None = Field(None, description="the client certificate's private key (PEM)")
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="used when the security protocol begins with SASL"
    )
    kafka_sasl_username: str | None = Field(None, description="SASL user name")
    kafka_sasl_password: SecretStr | None = Field(None, description="SASL password; never logged")
    topic_prefix: str = Field("", pattern=r"^[a-zA-Z0-9._-]*$", description="put before every topic and group name")
    replication_factor: int = Field(1, ge=1, description="copies of each partition; 3 in production")
    min_insync_replicas: int = Field(
        1, ge=1, description="copies that must have a record before it counts; 2 in production"
    )
    request_partitions: int = Field(8, ge=1, description="P: partitions of requests, completions and control")
    tenant_partitions: int = Field(4, ge=1, description="Q: partitions of admitted and usage")
    response_partitions: int = Field(
        16, ge=1, description="R: partitions of responses; one is an ingress's reply address"
    )
    work_partitions: int = Field(
        4, ge=1, description="partitions of each work topic: the most workers that can share a lane"
    )
    retention_hours: int = Field(168, ge=1, description="how long requests, completions and usage stay in Kafka")
    response_retention_minutes: int = Field(120, ge=1, description="how long frames stay in Kafka")
    max_body_bytes: int = Field(4_000_000, ge=1024, description="largest request body; more is 413")

    # Policy files
    routes_file: Path | None = Field(None, description="models and routing policy (TOML); the shipped one when unset")
    prices_file: Path | None = Field(None, description="price table (TOML); the shipped one when unset")

    # Ingress
    ingress_host: str = Field("127.0.0.1", description="address to listen on")
    ingress_port: int = Field(8080, ge=0, le=65535, description="port to listen on")
    ingress_wait_seconds: float = Field(
        30.0, gt=0, description="how long a caller waits unless it says `Prefer: wait=`"
    )
    ingress_max_wait_seconds: float = Field(600.0, gt=0, description="the longest wait that a caller may ask for")
    ingress_drain_seconds: float = Field(
        25.0, gt=0, description="time for calls in flight to end when told to stop; then they get 504 and their key"
    )
    ingress_heartbeat_seconds: float = Field(
        15.0, gt=0, description="a stream without news gets a comment this often, so that no proxy closes it"
    )
    ingress_ws_max_streams: int = Field(100, ge=1, description="most requests at once on one WebSocket")
    ingress_on_disconnect: OnDisconnect = Field(
        "detach", description="what becomes of an unstreamed request whose last caller hangs up: docs/cancel.md"
    )
    ingress_on_disconnect_stream: OnDisconnect = Field("cancel", description="the same for a streamed one")
    ingress_return_seconds: float = Field(
        5.0, ge=0, description="a caller that hung up finds its request running when it is back within this"
    )
    ingress_publish_timeout_ms: int = Field(1500, ge=50, description="Kafka must acknowledge within this, else 503")

    # Streams
    idempotency_window_hours: int = Field(24, ge=1, description="how long a key replays its first answer")
    streams_state_dir: Path = Field(
        Path(".millrace/streams"), description="RocksDB tables; rebuilt from Kafka when lost"
    )
    streams_batch_size: int = Field(500, ge=1, description="most records that a stage takes at once")
    tokens_per_minute: int = Field(
        10_000_000, ge=1, description="each tenant's limit, prompt and answer, unless `millrace limits` set another"
    )
    requests_per_minute: int = Field(
        1_000_000, ge=1, description="each tenant's limit, unless `millrace limits` set another"
    )
    reservation_ttl_seconds: int = Field(
        3600, ge=1, description="a reservation that nothing settled is given back after this"
    )
    shadow_wait_seconds: int = Field(
        600, ge=0, description="a shadow run that hasn't begun so long after the answer is left out: docs/routing.md"
    )

    worker_absent_seconds: int = Field(
        30,
        ge=1,
        description="a model without a live worker is taken to be back after this: nearer deadlines are refused",
    )
    breaker_failure_share: float = Field(
        0.5, gt=0, le=1, description="a model of whose requests this share fails is left to its fallback for a while"
    )
    breaker_least_requests: int = Field(10, ge=1, description="fewer than these in the window are no reason for that")
    breaker_window_seconds: int = Field(30, ge=1, description="that window")
    breaker_open_seconds: int = Field(15, ge=1, description="after this long one request tries the model again")

    # Workers
    worker_models: str = Field("", description="comma-separated models that this worker serves; all when empty")
    worker_engine: EngineName = Field("synthetic", description="engine for models that don't name one")
    worker_max_in_flight: int = Field(256, ge=1, description="requests in one engine at once, per model")
    interactive_deadline_seconds: int = Field(
        0,
        ge=0,
        description="interactive work that names no deadline must start within this after its acceptance; 0: none",
    )
    worker_batch_share: float = Field(
        0.1, ge=0, lt=1, description="of tokens when both lanes have too much; of the room beside interactive work"
    )
    worker_quiet_seconds: float = Field(
        10.0, ge=0, description="without interactive work for so long, batch work may fill the engine"
    )
    worker_read_ahead: int = Field(
        20_000, ge=128, description="records of a lane that wait in a worker, to be fair between their tenants"
    )
    worker_read_ahead_mb: int = Field(64, ge=1, description="the most that their bodies may take, MiB")
    tenant_weights: str = Field(
        "", description="shares between tenants that want too much: acme=3,globex=0.5; others 1"
    )
    worker_coalesce_ms: int = Field(5, ge=0, description="later tokens of a stream are gathered for this long")
    worker_drain_seconds: float = Field(25.0, gt=0, description="time to finish what runs when told to stop")
    worker_commit_interval_ms: int = Field(100, ge=1, description="finished work is committed this often")
    worker_max_attempts: int = Field(
        3, ge=2, description="tries of a request whose worker dies or hangs; the last one is made alone"
    )
    worker_stall_seconds: float = Field(
        600.0, gt=0, description="an engine that gives nothing for this long has hung: longer than a whole answer takes"
    )
    worker_session_timeout_ms: int = Field(
        6000, ge=1000, description="silent for this long, a worker loses its partitions to the others"
    )
    gpu_hour_dollars: Dollars = Field(
        0, description="what a GPU costs an hour, for models that name no price of their own: docs/analytics.md"
    )
    engine_time_seconds: int = Field(
        10, ge=1, le=3600, description="workers tell this often what their engines did: what a kill leaves untold"
    )
    synthetic_faults: bool = Field(
        default=False,
        description="obey `metadata.synthetic_fault` (overload, error, hang, crash), where there is a "
        "`synthetic_fault_of` only as that model; for tests only",
    )
    synthetic_sampling: bool = Field(
        default=False,
        description="other words at each run, as from a model, when a request has a temperature and no seed",
    )
    openai_base_url: str = Field("http://127.0.0.1:8000/v1", description="upstream of the openai engine")
    openai_api_key: SecretStr | None = Field(None, description="bearer key for that upstream; never logged")
    openai_continues: bool = Field(
        default=False,
        description="that upstream knows `continue_final_message` (vllm serve, SGLang): a lost worker's stream goes on",
    )
    openai_timeout_seconds: float = Field(600.0, gt=0, description="longest wait for the upstream's next byte")
    openai_attempts: int = Field(4, ge=1, description="tries to get a first token from that upstream")
    vllm_gpu_memory_utilization: float = Field(0.9, gt=0, le=1, description="share of GPU memory vLLM may take")
    vllm_dtype: str = Field("auto", description="weights' type; float32 on a CPU for equal text alone and in a batch")
    vllm_max_model_len: int | None = Field(None, ge=16, description="context length; the model's own when unset")
    vllm_enforce_eager: bool = Field(default=False, description="skip graph capture: a faster start, slower decode")

    # Dead letters
    poison_share: float = Field(
        0.5, gt=0, le=1, description="a stage stops when more of its last records than this were poison; 1: never"
    )
    poison_window: int = Field(1000, ge=10, description="those last records")

    # Analytics
    clickhouse_url: str | None = Field(
        None, description="a server, https://user@host:8443/database; embedded engine when unset"
    )
    clickhouse_password: SecretStr | None = Field(
        None, description="for that server, or for the query port; never logged"
    )
    clickhouse_path: Path = Field(Path(".millrace/clickhouse"), description="the embedded engine's folder")
    clickhouse_database: str = Field(
        "millrace", pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$", description="database of the ledger"
    )
    analytics_host: str = Field("127.0.0.1", description="address of the query port (embedded engine)")
    analytics_port: int = Field(8123, ge=0, le=65535, description="read-only ClickHouse HTTP on the embedded engine")
    query_max_seconds: int = Field(60, ge=1, description="query port: longest run of one query")
    query_max_memory_mb: int = Field(1024, ge=16, description="query port: memory of one query, MiB")
    query_max_result_mb: int = Field(256, ge=1, description="query port: size of one result, MiB")
    query_concurrency: int = Field(2, ge=1, description="query port: queries that run at once; others wait")
    dashboard: bool = Field(default=True, description="analytics serves the dashboard beside the query port")
    dashboard_host: str = Field("127.0.0.1", description="address of the dashboard")
    dashboard_port: int = Field(8081, ge=0, le=65535, description="port of the dashboard")
    dashboard_https: bool = Field(
        default=False, description="people reach it by https, through a proxy: its cookie is marked Secure"
    )
    dashboard_session_hours: int = Field(12, ge=1, description="after this long people sign in again")
    dashboard_secret: SecretStr | None = Field(
        None, description="signs sessions; when unset a new one at each start, which ends them; never logged"
    )
    ledger_retention_days: int | None = Field(
        None, ge=1, description="rows leave the ledger so long after their outcome; never when unset"
    )
    sink_block_rows: int = Field(100_000, ge=1, description="most events in one insert")
    sink_max_wait_ms: int = Field(1000, ge=2, description="an event waits no longer than this for its block")

    # Metrics
    metrics_host: str = Field("127.0.0.1", description="address of `GET /metrics`, for Prometheus")
    metrics_port: int = Field(
        9464,
        ge=0,
        le=65535,
        description="its port, one for each process: 0 takes a free one; `millrace up` counts up from it",
    )

    # Logs
    log_format: Literal["text", "json"] = Field("text", description="readable or one JSON object a line")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level written")


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The process's settings, read from the environment at the first call."""
    return Settings()
