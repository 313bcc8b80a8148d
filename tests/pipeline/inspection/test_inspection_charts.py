from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from pipeline.inspection.charts import HEIGHT, MOST_BARS, WIDTH, histogram, quantile
from pipeline.inspection.page import percent, quantity, width


def test_every_row_stands_in_exactly_one_bar():
    counts = Counter(int(random.Random(n).gauss(60, 25)) for n in range(5000))
    chart = histogram("t", "word", counts)
    assert sum(bar.rows for bar in chart.bars) == chart.rows == 5000
    assert len(chart.bars) <= MOST_BARS


@pytest.mark.parametrize("counts", [{3: 1}, {0: 5, 1: 1}, {n: 1 for n in range(500)}, {1: 10**6, 900: 1}])
def test_bars_stay_on_the_drawing_and_the_tallest_fills_it(counts):
    chart = histogram("t", "word", counts)
    for bar in chart.bars:
        assert 0 <= bar.x < bar.x + bar.width <= WIDTH
        assert math.isclose(bar.y + bar.height, HEIGHT)
        assert (bar.height > 0) == (bar.rows > 0)
    assert max(bar.height for bar in chart.bars) == HEIGHT
    assert 0 <= chart.median_x <= WIDTH
    assert chart.top == max(bar.rows for bar in chart.bars)


def test_a_few_endless_texts_do_not_squeeze_the_others():
    chart = histogram("t", "word", {10: 500, 11: 300, 12: 200, 5000: 1})
    assert [bar.rows for bar in chart.bars] == [500, 300, 201]
    assert chart.bars[-1].label == "12 or more"
    assert chart.ticks[-1].label == "12 or more"


def test_bars_over_several_numbers_name_them():
    chart = histogram("t", "word", {n: 1 for n in range(60)})
    assert [bar.label for bar in chart.bars[:2]] == ["0 to 1", "2 to 3"]


def test_no_rows_make_no_chart():
    assert histogram("t", "word", {}) is None


def test_quantiles_follow_their_definition():
    counts = {1: 1, 2: 1, 3: 1, 4: 1}
    assert [quantile(counts, share) for share in (0.0, 0.25, 0.5, 0.51, 1.0)] == [1, 1, 2, 3, 4]


def test_only_nothing_reads_0_percent_and_only_the_whole_reads_100():
    assert [percent(*pair) for pair in ((0, 9), (5, 0), (1, 10**6), (10**6 - 1, 10**6), (9, 9))] == [
        "0%",
        "0%",
        "<0.1%",
        ">99.9%",
        "100%",
    ]
    assert [percent(1, 3), percent(1, 2), percent(999, 1000)] == ["33.3%", "50%", "99.9%"]


def test_a_bar_that_is_not_nothing_can_be_seen():
    assert width(0, 10) == 0
    assert width(1, 10**9) == 1
    assert width(5, 10) == 50


def test_one_of_a_thing_is_singular():
    assert quantity(1, "sample") == "1\N{NO-BREAK SPACE}sample"
    assert quantity(2000, "sample") == "2,000\N{NO-BREAK SPACE}samples"
