from __future__ import annotations

import pytest

from pipeline.engines.batching import BatchSize, run_batches


def run_all(rows, most, run, judge=lambda error: "engine_error", size=None):
    return list(run_batches(rows, size or BatchSize(most), run, judge))


def double(rows):
    return [2 * row for row in rows]


def fails_on(bad, error=ValueError):
    def run(rows):
        if bad & set(rows):
            raise error(f"cannot do {sorted(bad & set(rows))}")
        return double(rows)

    return run


def test_rows_come_back_in_order_with_their_outputs():
    assert run_all(range(10), 4, double) == [(n, 2 * n, None, "") for n in range(10)]


def test_nothing_in_nothing_out():
    assert run_all([], 4, double) == []


@pytest.mark.parametrize("bad", [{0}, {6}, {0, 9}, {3, 4, 5}, set(range(10))])
def test_only_the_rows_at_fault_fail_and_the_order_stays(bad):
    found = run_all(range(10), 4, fails_on(bad))
    assert [row for row, *_ in found] == list(range(10))
    assert {row for row, output, *_ in found if output is None} == bad
    for row, output, trouble, why in found:
        assert (output, trouble) == ((None, "engine_error") if row in bad else (2 * row, None))
        assert (str(row) in why) == (row in bad)


def test_one_bad_row_costs_few_extra_batches():
    calls = []

    def run(rows):
        calls.append(len(rows))
        return fails_on({5})(rows)

    run_all(range(64), 64, run)
    assert len(calls) == 1 + 2 * 6


def memory_for(most, calls):
    def run(rows):
        calls.append(len(rows))
        if len(rows) > most:
            raise MemoryError
        return double(rows)

    return run


def test_out_of_memory_shrinks_the_batches_that_follow():
    calls = []
    found = run_all(range(40), 16, memory_for(5, calls), lambda error: "out_of_memory")
    assert [output for _, output, *_ in found] == [2 * n for n in range(40)]
    assert calls == [16, 8] + [4] * 10


def test_the_size_comes_back_when_there_is_memory_again():
    size, calls = BatchSize(16), []
    run_all(range(16), 16, memory_for(4, calls), lambda error: "out_of_memory", size)
    assert size.now == 4
    run_all(range(2000), 16, double, size=size)
    assert size.now == 16


def test_a_size_that_does_not_fit_is_tried_ever_more_rarely():
    size, calls = BatchSize(16), []
    run_all(range(4000), 16, memory_for(8, calls), lambda error: "out_of_memory", size)
    tries = [place for place, rows in enumerate(calls) if rows == 16]
    gaps = [later - earlier for earlier, later in zip(tries, tries[1:], strict=False)]
    assert gaps == sorted(gaps) and gaps[0] < 20 < gaps[-1]


def test_the_size_never_exceeds_the_configured_one():
    size = BatchSize(6)
    size.shrink(6)
    assert size.now == 3
    for _ in range(100):
        size.grow()
    assert size.now == 6


def test_a_row_that_does_not_fit_alone_is_reported():
    found = run_all(range(3), 4, memory_for(0, []), lambda error: "out_of_memory")
    assert [(row, trouble) for row, _, trouble, _ in found] == [(n, "out_of_memory") for n in range(3)]


def test_a_judge_that_raises_ends_the_run():
    def judge(error):
        raise SystemError("device gone") from error

    with pytest.raises(SystemError, match="device gone"):
        run_all(range(10), 4, fails_on({5}), judge)


def test_an_interrupt_is_not_taken_for_a_failing_row():
    def run(rows):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_all(range(4), 4, run)


def test_a_model_that_drops_a_row_is_found_out():
    with pytest.raises(RuntimeError, match="gave 3 texts for 4 rows"):
        run_all(range(4), 4, lambda rows: double(rows)[1:])


def test_memory_is_released_after_each_failed_batch_when_nothing_refers_to_it():
    import sys

    seen = []
    list(
        run_batches(
            range(4),
            BatchSize(4),
            fails_on({2}),
            lambda error: "engine_error",
            lambda: seen.append(sys.exc_info()[1]),
        )
    )
    assert seen == [None, None, None]
