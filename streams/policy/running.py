"""The router in force: the file's, until `routes` has a policy, and from each change of that on the new one."""

from collections.abc import Iterable

import structlog
from pydantic import ValidationError

from contracts.catalogue import Catalogue
from contracts.envelope import Admitted
from contracts.errors import ConfigError
from contracts.policy_record import POLICY_KEY, PolicyRecord
from contracts.prices import PriceTable
from streams.complexity import scorer
from streams.policy.case import CALM, Conditions
from streams.route import Refusal, Route, Router
from streams.scoring.learned import LearnedScorer

_log = structlog.get_logger()


class RunningPolicy:
    """May change between any two choices: a choice that was taken is kept with its reservation, and not taken anew."""

    def __init__(self, catalogue: Catalogue, prices: PriceTable) -> None:
        """`catalogue`: the file's. Its models are those that have topics, so that no policy may name others."""
        self._own = Router(catalogue, prices)
        self._prices = prices
        self._router = self._own

    @property
    def version(self) -> str:
        return self._router.version

    def choose(self, request: Admitted, body: bytes, at: int, now: Conditions = CALM) -> Route | Refusal:
        """As Router."""
        return self._router.choose(request, body, at, now)

    def apply(self, records: Iterable[tuple[bytes | None, bytes | None]]) -> None:
        """Keys and values of `routes`. A policy that doesn't fit is passed over as a whole, and what runs goes on."""
        for key, value in records:
            if key != POLICY_KEY:
                continue
            try:
                self._router = self._read(value) if value else self._own
            except ConfigError as error:
                _log.error("a routing policy is passed over", reason=error.message, running=self.version)
            else:
                _log.info("routing policy", version=self.version)

    def _read(self, value: bytes) -> Router:
        record = PolicyRecord.decode(value)
        catalogue = record.catalogue()
        unserved = sorted(catalogue.models.keys() - self._own.catalogue.models.keys())
        if unserved:
            raise ConfigError(f"This process was started without the model {', '.join(unserved)}.")
        return router_of(record, self._prices)


def router_of(record: PolicyRecord, prices: PriceTable) -> Router:
    """Raises ConfigError."""
    catalogue = record.catalogue()
    try:
        learned = LearnedScorer.model_validate(record.scorer) if record.scorer else None
    except ValidationError:
        raise ConfigError("The policy's scorer isn't one that `millrace route train` wrote.") from None
    return Router(catalogue, prices, scorer(catalogue.scorer, learned))
