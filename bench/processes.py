"""CPU and memory by process of the running stack."""

import psutil


def cpu_seconds(pids: dict[str, list[int]]) -> dict[str, float]:
    """User and system time so far of each named group of processes and of their children."""
    return {name: sum(_cpu(pid) for pid in group) for name, group in pids.items()}


def rss_mib(pids: dict[str, list[int]]) -> dict[str, float]:
    return {name: sum(_family_rss(pid) for pid in group) / 2**20 for name, group in pids.items()}


def _cpu(pid: int) -> float:
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    return sum(times.user + times.system for times in (member.cpu_times() for member in family))


def _family_rss(pid: int) -> int:
    process = psutil.Process(pid)
    return sum(member.memory_info().rss for member in (process, *process.children(recursive=True)))
