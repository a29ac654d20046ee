"""How full a vLLM engine in this process is, from its own metrics: these are in the registry that ours are in."""

from collections.abc import Iterable

from prometheus_client import REGISTRY, Metric

from inference.engine import Load

_RUNNING, _WAITING, _KV = "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"


def read_load(model: str) -> Load | None:
    """`model` by vLLM's name for it. None when it doesn't tell."""
    found = {
        sample.name: sample.value
        for metric in _collect((_RUNNING, _WAITING, _KV))
        for sample in metric.samples
        if sample.labels.get("model_name") == model
    }
    if _RUNNING not in found:
        return None
    return Load(int(found[_RUNNING]), int(found.get(_WAITING, 0)), found.get(_KV))


def _collect(names: Iterable[str]) -> Iterable[Metric]:
    return REGISTRY.restricted_registry(names).collect()
