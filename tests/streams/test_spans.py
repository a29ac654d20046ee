"""A stage in a trace: what it publishes follows from the record alone, and each span has its parent."""

from contracts.headers import RawHeaders
from contracts.topics import Topics
from contracts.tracing import Span, TraceContext, Tracer
from streams.records import Output, Record
from streams.spans import StageSpans

PARENT = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", 1, "vendor=1")


def record(headers: RawHeaders, topic: str = "requests") -> Record:
    return Record(topic, 3, 41, 1_790_000_000_000, b"acme:k", b"{}", headers, 0)


def forward(given: Record) -> list[Output]:
    """As dedupe does, and settle: one record with the headers as they came, one with others."""
    return [
        Output("admitted", b"acme", b"{}", [*given.headers, ("claim", b"3.41")]),
        Output("usage", b"acme", b"{}", []),
    ]


class Traced:
    def __init__(self, stage: str = "dedupe", *, samples: bool = True) -> None:
        self.exported: list[Span] = []
        using = Tracer(lambda *_: samples, lambda span, _: self.exported.append(span))
        self._spans = StageSpans(using, stage, Topics())

    def decide(self, given: Record) -> list[Output]:
        batch = self._spans.batch()
        outputs = batch.decide(forward, given)
        assert self.exported == []  # as long as nothing has been delivered
        batch.delivered()
        return outputs


def context(output: Output) -> TraceContext:
    found = TraceContext.of(output.headers)
    assert found is not None
    return found


def test_a_replay_publishes_the_same_bytes() -> None:
    for headers in ([], PARENT.headers()):
        assert Traced().decide(record([*headers])) == Traced().decide(record([*headers]))


def test_what_is_published_is_under_the_stage_and_that_under_what_it_read() -> None:
    traced = Traced()
    outputs = traced.decide(record([("user", b"ann"), *PARENT.headers()]))
    sends, [stage] = traced.exported[:-1], traced.exported[-1:]
    assert (stage.name, stage.parent, stage.links) == ("dedupe requests", PARENT, [PARENT])
    assert [(send.name, send.parent) for send in sends] == [
        ("send admitted", stage.context),
        ("send usage", stage.context),
    ]
    assert [context(output) for output in outputs] == [send.context for send in sends]
    assert len({PARENT.span_id, stage.context.span_id, *(send.context.span_id for send in sends)}) == 4
    assert {context(output).state for output in outputs} == {"vendor=1"}
    assert outputs[0].headers[0] == ("user", b"ann")


def test_a_direct_producers_request_begins_a_trace_of_its_own() -> None:
    traced = Traced()
    [admitted, _] = traced.decide(record([]))
    assert traced.exported[-1].parent is None
    assert context(admitted).trace_id == traced.exported[-1].context.trace_id


def test_other_records_without_a_trace_stay_without() -> None:
    for given in (record([("ce_type", b"millrace.lookup.v1")]), record([], topic="usage")):
        traced = Traced()
        assert traced.decide(given) == forward(given)
        assert traced.exported == []


def test_what_is_not_sampled_begins_nothing_further_down() -> None:
    traced = Traced(samples=False)
    [admitted, _] = traced.decide(record([]))
    assert not context(admitted).sampled
    assert traced.exported == []


def test_the_choice_of_a_model_is_told() -> None:
    traced = Traced("meter")
    batch = traced._spans.batch()
    routed = [("route", b"simple"), ("model", b"small"), ("complexity", b"0.2"), ("router-version", b"v")]
    batch.decide(
        lambda given: [Output("work.small.interactive", b"acme:k", b"{}", [*given.headers, *routed])],
        record(PARENT.headers(), topic="admitted"),
    )
    batch.delivered()
    route = next(span for span in traced.exported if span.name == "route")
    assert route.parent == traced.exported[-1].context
    assert route.attributes == {
        "millrace.route": "simple",
        "millrace.model": "small",
        "millrace.complexity": "0.2",
        "millrace.router_version": "v",
    }


def test_headers_that_are_no_text_do_no_harm() -> None:
    traced = Traced("settle")
    traced.decide(record([("outcome", b"\xff"), *PARENT.headers()], topic="completions"))
    assert traced.exported[-1].attributes["millrace.outcome"] == "\ufffd"
