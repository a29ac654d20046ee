"""The machine's GPUs, as NVML knows them. Without one there is nothing to tell: a 0 would be an idle GPU."""

import structlog

from contracts.instruments import before_scrape, gauges
from contracts.metrics import GPU_MEMORY, GPU_MEMORY_LIMIT, GPU_UTILIZATION

log = structlog.get_logger()


def watch_gpus() -> None:
    """From now on each scrape asks them."""
    try:
        import pynvml  # noqa: PLC0415 - a vLLM for CPUs comes without it
    except ImportError:
        return
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        names = [(_text(pynvml.nvmlDeviceGetUUID(h)), _text(pynvml.nvmlDeviceGetName(h))) for h in handles]
    except pynvml.NVMLError as error:
        log.debug("no GPU to watch", reason=str(error))
        return

    def tell() -> None:
        for handle, name in zip(handles, names, strict=True):
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            gauges(GPU_UTILIZATION)[name].set(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100)
            gauges(GPU_MEMORY)[name].set(memory.used)
            gauges(GPU_MEMORY_LIMIT)[name].set(memory.total)

    before_scrape("GPUs", tell)


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name
