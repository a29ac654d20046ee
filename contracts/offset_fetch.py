"""Mends aiokafka 0.14: it overlooks the group-level error of OffsetFetch (version 2 and later, KIP-88).

A coordinator that is just loading answers with that error and no partitions. aiokafka takes this for "nothing was ever
committed", goes back to the beginning of every partition and commits from there: all that is retained runs again. Seen
after Kafka stood still for longer than its own session (tests/chaos, freeze-kafka).
"""

from typing import Any

from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import NoError, NotCoordinatorForGroupError, for_code
from aiokafka.protocol.commit import OffsetFetchRequest


class _Coordinator(GroupCoordinator):  # type: ignore[misc] # aiokafka has no types
    async def _send_req(self, request: Any) -> Any:
        """Raises the KafkaError that the answer as a whole tells of; the caller tries again when it may."""
        answer = await _plain_send(self, request)
        if isinstance(request, OffsetFetchRequest):
            error = for_code(getattr(answer, "error_code", NoError.errno))
            if error is NotCoordinatorForGroupError:
                self.coordinator_dead()
            if error is not NoError:
                raise error
        return answer


_plain_send = GroupCoordinator._send_req  # noqa: SLF001 - there is no seam


def mend_offset_fetch() -> None:
    """For every consumer of this process. May be repeated."""
    GroupCoordinator._send_req = _Coordinator._send_req  # noqa: SLF001
