"""The meter's answer to how much of their limits callers use now. It changes nothing."""

from collections.abc import Iterable

from contracts.frames import Frame, FrameKind
from contracts.limit_usage import AccountUsage, MeasureUsage, UsageAnswer, UsageQuestion
from contracts.topics import Topics
from streams.limits.account import TENANT, Account, Whose
from streams.limits.admission import Place, refresh
from streams.limits.measures import is_empty
from streams.limits.policy import Policy
from streams.records import Output, Record
from streams.tenants import Book

_MOST_READ = 5_000  # accounts: admission waits meanwhile
_MOST_TOLD = 1_000


def answer(book: Book, policy: Policy, topics: Topics, record: Record) -> Output:
    """Raises InvalidRequest when it isn't a question."""
    question = UsageQuestion.from_headers(record.headers)
    address = topics.check_reply_to(question.reply_to)
    rows = _asked_for(book, question, record.timestamp)
    found = [_usage(tenant, whose, account, policy, record.timestamp) for tenant, whose, account in rows]
    found.sort(key=lambda usage: usage.share, reverse=True)
    complete = len(found) <= _MOST_TOLD and len(rows) < _MOST_READ
    told = UsageAnswer(at=record.timestamp, accounts=found[:_MOST_TOLD], complete=complete)
    frame = Frame(kind=FrameKind.STATE, in_reply_to=question.ce_id)
    value = told.model_dump_json(exclude_none=True).encode()
    return Output(address.topic, question.ce_id.encode(), value, frame.to_headers(), address.partition)


def _asked_for(book: Book, question: UsageQuestion, now: int) -> list[tuple[str, Whose, Account]]:
    whose = Whose(question.user or None, question.feature or None, question.api_key_id or None)
    if question.tenant and whose != TENANT:
        return [(question.tenant, whose, book.account(question.tenant, whose))]
    return [*_used(book.stored_accounts(question.tenant, _MOST_READ), now)]


def _used(rows: Iterable[tuple[str, Whose, Account]], now: int) -> Iterable[tuple[str, Whose, Account]]:
    return ((tenant, whose, account) for tenant, whose, account in rows if not is_empty(account, now))


def _usage(tenant: str, whose: Whose, account: Account, policy: Policy, now: int) -> AccountUsage:
    held = policy.of(tenant, whose)
    refresh([Place(account, held)], now)
    limits = dict(held.limits)
    measures = {
        measure.name: MeasureUsage(
            used=measure.amount(account),
            limit=limits.get(measure),
            reset_ms=measure.reset_ms(account, limit, now) if limit else 0,
        )
        for measure, limit in held.counted
    }
    return AccountUsage(tenant=tenant, user=whose.user, feature=whose.feature, api_key=whose.api_key, measures=measures)
