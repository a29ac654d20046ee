"""`python -m bench`: every benchmark, each with its table."""

import asyncio

from bench import meter, pipeline, scorer

BENCHMARKS = [pipeline.main, scorer.main, meter.main]

if __name__ == "__main__":
    for benchmark in BENCHMARKS:
        asyncio.run(benchmark())
