"""`python -m bench`: every benchmark, each with its table."""

import asyncio

from bench import cancel, lanes, limits, meter, metrics, open_streams, pipeline, resume, scorer, stream_tokens, waits

BENCHMARKS = [
    pipeline.main,
    scorer.main,
    metrics.main,
    meter.main,
    limits.main,
    lanes.main,
    waits.waits,
    resume.main,
    stream_tokens.main,
    cancel.main,
    open_streams.main,
]

if __name__ == "__main__":
    for benchmark in BENCHMARKS:
        asyncio.run(benchmark())
