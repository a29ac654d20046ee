"""Whose turn it is: interactive first, batch beside it, and the batch lane's floor."""

from inference.turns import Turns


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def turns(room: int = 100, share: float = 0.1) -> tuple[Turns, Clock]:
    clock = Clock()
    return Turns(room, share, 10.0, clock), clock


def fill(turn: Turns, *, interactive: bool, batch: bool, most: int, tokens: int = 10) -> list[str]:
    started = []
    for _ in range(most):
        lane = turn.next(interactive=interactive, batch=batch)
        if lane is None:
            break
        turn.start(lane, tokens)
        started.append(lane)
    return started


def test_alone_batch_work_has_nearly_all_of_the_room() -> None:
    turn, _ = turns()
    assert len(fill(turn, interactive=False, batch=True, most=100)) == 88


def test_beside_interactive_work_it_has_its_share() -> None:
    turn, clock = turns()
    turn.start("interactive", 10)
    assert len(fill(turn, interactive=False, batch=True, most=100)) == 10
    turn.end("interactive")
    assert turn.next(interactive=False, batch=True) is None
    clock.now += 10.1
    assert turn.next(interactive=False, batch=True) == "batch"


def test_when_both_have_too_much_batch_work_gets_its_share_of_the_tokens() -> None:
    turn, _ = turns()
    started = fill(turn, interactive=True, batch=True, most=1000)
    assert 95 <= started.count("batch") <= 105


def test_what_it_left_unused_it_has_not_saved_up() -> None:
    turn, _ = turns()
    fill(turn, interactive=True, batch=False, most=500)
    assert fill(turn, interactive=True, batch=True, most=100).count("batch") <= 11


def test_tokens_count_not_requests() -> None:
    turn, _ = turns(share=0.5)
    batch = 0
    for _ in range(300):
        lane = turn.next(interactive=True, batch=True)
        assert lane
        batch += lane == "batch"
        turn.start(lane, 40 if lane == "batch" else 20)
    assert 95 <= batch <= 105


def test_without_a_share_batch_work_waits_until_nothing_else_does() -> None:
    turn, _ = turns(share=0.0)
    assert fill(turn, interactive=True, batch=True, most=50) == ["interactive"] * 50
    assert turn.next(interactive=False, batch=True) == "batch"


def test_the_smallest_room_serves_both() -> None:
    turn, _ = turns(room=1)
    assert fill(turn, interactive=False, batch=True, most=5) == ["batch"]
    assert turn.next(interactive=True, batch=False) == "interactive"
