"""A cursor never passes a result without an outcome, and never stays behind for nothing."""

import random

from litejoin.delivery.progress import Progress


def test_the_cursor_is_the_highest_position_below_which_everything_ended() -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    progress, in_flight, begun, ended = Progress(10), list[int](), list[int](), set[int]()
    pos = 10
    for _ in range(2_000):
        if rng.random() < 0.5:
            pos += rng.randrange(1, 4)
            if rng.random() < 0.8:
                progress.begin(pos)
                in_flight.append(pos)
                begun.append(pos)
            progress.reach(pos)
        elif in_flight:
            done = in_flight.pop(rng.randrange(len(in_flight)))
            ended.add(done)
            progress.end(done)
        open_ones = [p for p in begun if p not in ended]
        assert progress.cursor == (open_ones[0] - 1 if open_ones else pos)
        assert progress.ended_ahead == sum(p > progress.cursor for p in ended)
        assert progress.reached == pos


def test_a_batch_ends_as_a_whole() -> None:
    one, other = Progress(5), Progress(5)
    for pos in (7, 8, 11):
        one.begin(pos)
        other.begin(pos)
    one.reach(12)
    other.reach(12)
    one.end(8)  # an earlier part of the batch
    one.end_all()
    for pos in (8, 7, 11):
        other.end(pos)
    assert one.cursor == other.cursor == 12
    assert one.ended_ahead == other.ended_ahead == 0
