"""How a worker's streams reach their readers, and how they are read back."""

from dataclasses import dataclass

from aiokafka import AIOKafkaProducer

from inference.deltas import Coalescer
from inference.readback import Readback
from inference.reply import ReplyAddresses


@dataclass(frozen=True, slots=True)
class Frames:
    """What all streams of a process share."""

    producer: AIOKafkaProducer
    addresses: ReplyAddresses
    coalescer: Coalescer
    readback: Readback
