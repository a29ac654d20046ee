"""Trace context, and spans on their way to a collector that may be there, hang, or be missing."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from contracts import tracing
from contracts.errors import ConfigError
from contracts.headers import RawHeaders
from contracts.otlp import Pipeline
from contracts.tracing import Span, TraceContext, Tracer
from millrace.ports import free_port
from tests.support.collector import Collector, collecting

PARENT = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", 1)
OFF = """
import sys
from contracts import tracing
from contracts.runtime import main
import analytics.service, inference.service, ingress.service, streams.service
tracing.start("ingress")
assert tracing.tracer() is None
print([name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))])
"""
MANY = """
import sys
from contracts import tracing
tracing.start("ingress")
using = tracing.tracer()
for _ in range(int(sys.argv[1])):
    using.end(using.begin("a", "server"))
tracing.stop()
print("stopped")
"""


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        yield collector


def tracer_of(pipeline: Pipeline) -> Tracer:
    return Tracer(pipeline.samples, pipeline.export)


class TestContext:
    def test_what_is_written_is_read(self) -> None:
        assert TraceContext.parse(PARENT.traceparent) == PARENT
        with_state = PARENT._replace(state="vendor=1,other=2")
        assert TraceContext.of(with_state.headers()) == with_state

    @pytest.mark.parametrize(
        "header",
        [
            b"",
            b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nx: y",
            b"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            b"00-00000000000000000000000000000000-b7ad6b7169203331-01",
            b"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            b"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        ],
    )
    def test_what_is_malformed_begins_anew(self, header: bytes) -> None:
        assert TraceContext.parse(header, b"vendor=1") is None

    def test_it_takes_the_place_of_another(self) -> None:
        headers: RawHeaders = [("user", b"ann"), ("traceparent", b"old"), ("tracestate", b"old"), ("tags", b"a=b")]
        assert PARENT.put_into(headers) == [("user", b"ann"), ("tags", b"a=b"), ("traceparent", PARENT.traceparent)]


class TestTracer:
    exported: list[Span]

    def tracer(self, *, samples: bool = True) -> Tracer:
        self.exported = []
        return Tracer(lambda *_: samples, lambda span, _: self.exported.append(span))

    def test_ids_follow_from_the_seed(self) -> None:
        using = self.tracer()
        one, same = (using.begin("a", "consumer", PARENT, seed="meter admitted-1@7") for _ in range(2))
        other = using.begin("a", "consumer", PARENT, seed="meter admitted-1@8")
        elsewhere = using.begin("a", "consumer", PARENT._replace(span_id="1" * 16), seed="meter admitted-1@7")
        assert one.context == same.context
        assert len({one.context.span_id, other.context.span_id, elsewhere.context.span_id}) == 3
        assert {one.context.trace_id, other.context.trace_id} == {PARENT.trace_id}
        first, again = (using.begin("a", "consumer", seed="dedupe requests-1@7").context for _ in range(2))
        assert first == again
        assert using.begin("a", "consumer").context != using.begin("a", "consumer").context

    def test_what_is_not_sampled_is_passed_on(self) -> None:
        using = self.tracer(samples=False)
        span = using.begin("a", "server")
        using.end(span)
        assert self.exported == []
        assert span.context.traceparent.endswith(b"-00")


class TestExporters:
    @pytest.mark.parametrize(
        ("environment", "wanted"),
        [
            ({}, []),
            ({"OTEL_SERVICE_NAME": "mine"}, []),
            ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, ["otlp"]),
            ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, ["otlp"]),
            ({"OTEL_TRACES_EXPORTER": "otlp, console"}, ["otlp", "console"]),
            ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, []),
            ({"OTEL_SDK_DISABLED": "True", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, []),
        ],
    )
    def test_by_the_standard_variables(
        self, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], wanted: list[str]
    ) -> None:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert tracing._wanted_exporters() == wanted

    def test_what_there_is_not_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ConfigError, match="'zipkin'; Millrace has otlp, console and none"):
            Pipeline("ingress", ["zipkin"])
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        with pytest.raises(ConfigError, match="'grpc'; Millrace speaks http/protobuf"):
            Pipeline("ingress", ["otlp"])


def test_off_imports_nothing() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    ended = subprocess.run([sys.executable, "-c", OFF], capture_output=True, text=True, check=False, env=environment)
    assert (ended.returncode, ended.stdout) == (0, "[]\n"), ended.stderr


def test_a_span_arrives_as_it_was(monkeypatch: pytest.MonkeyPatch, collector: Collector) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.instance.id=one")
    pipeline = Pipeline("worker", ["otlp"])
    using = tracer_of(pipeline)
    span = using.begin("process work", "consumer", PARENT, at_ns=1_000_000_000)
    span.attributes = {"count": 3, "share": 0.5, "names": ["a", "b"], "good": True}
    span.links, span.events, span.error = [PARENT], [("first", 1_500_000_000)], "timeout"
    using.end(span, 2_000_000_000)
    pipeline.stop()  # what hasn't gone yet goes now
    [seen] = collector.spans
    assert (seen.service, seen.instance, seen.kind) == ("millrace-worker", "one", "consumer")
    assert (seen.trace_id, seen.span_id, seen.parent_id) == (PARENT.trace_id, span.context.span_id, PARENT.span_id)
    assert (seen.start_ns, seen.end_ns, seen.events) == (1_000_000_000, 2_000_000_000, ("first",))
    assert seen.attributes == {"count": 3, "share": 0.5, "names": ["a", "b"], "good": True, "error.type": "timeout"}
    assert seen.links == {(PARENT.trace_id, PARENT.span_id)}
    assert seen.failed


def test_the_service_has_the_name_it_is_given(monkeypatch: pytest.MonkeyPatch, collector: Collector) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    pipeline = Pipeline("worker", ["otlp"])
    using = tracer_of(pipeline)
    using.end(using.begin("a", "internal"))
    pipeline.stop()
    assert [seen.service for seen in collector.spans] == ["mine"]


@pytest.mark.parametrize(("sampler", "argument"), [("always_off", ""), ("parentbased_traceidratio", "0")])
def test_the_sampler_decides_where_a_trace_begins(
    monkeypatch: pytest.MonkeyPatch, collector: Collector, sampler: str, argument: str
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
    pipeline = Pipeline("ingress", ["otlp"])
    using = tracer_of(pipeline)
    root = using.begin("a", "server")
    using.end(root)
    using.end(using.begin("b", "consumer", root.context))
    if sampler.startswith("parentbased"):
        using.end(using.begin("c", "consumer", PARENT))  # sampled by whoever began it
    pipeline.stop()
    assert [seen.name for seen in collector.spans] == (["c"] if sampler.startswith("parentbased") else [])


def ends(spans: int, endpoint: str) -> None:
    """So many spans, and then the process, though an export is given an hour."""
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_TIMEOUT": "3600"}
    environment = {**os.environ, **environment, "OTEL_BSP_SCHEDULE_DELAY": "10"}
    program = [sys.executable, "-c", MANY, str(spans)]
    ended = subprocess.run(program, capture_output=True, text=True, check=False, env=environment, timeout=120)
    assert (ended.returncode, ended.stdout) == (0, "stopped\n"), ended.stderr


def test_a_hanging_collector_costs_its_spans_and_no_time(collector: Collector) -> None:
    collector.answering.clear()
    ends(5_000, collector.url)  # more than the queue holds
    assert collector.asked == 1
    assert collector.spans == []


def test_a_missing_collector_costs_its_spans_and_no_time() -> None:
    ends(1_000, f"http://127.0.0.1:{free_port()}")
