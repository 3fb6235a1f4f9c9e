"""Charts: where points land, ticks, escaping."""

from xml.etree import ElementTree

from rlcap.eval.report.charts import Line, line_chart, nice_ticks, smooth


def test_ticks_are_round_and_cover_the_range():
    assert nice_ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert nice_ticks(-1.9, -0.7) == [-2, -1.5, -1, -0.5]
    assert nice_ticks(0, 120, whole=True) == [0, 50, 100, 150]
    assert nice_ticks(0, 3, whole=True) == [0, 1, 2, 3]
    flat = nice_ticks(0.5, 0.5)
    assert flat[0] < 0.5 < flat[-1]


def test_points_land_where_they_should_and_gaps_stay():
    chart = line_chart("t", [Line("a", [(0, 0.0), (5, float("nan")), (10, 1.0)])], (0, 10))
    svg = ElementTree.fromstring(str(chart.plot).split("<span")[0].removeprefix('<div class="plot">'))
    path = next(e.get("d") for e in svg.iter() if e.get("class") == "line s0")
    assert path == "M0.0,1000.0M1000.0,0.0"


def test_nothing_to_draw_is_no_chart():
    assert line_chart("t", [], (0, 1)) is None
    assert line_chart("t", [Line("a", [(0, float("nan"))])], (0, 1)) is None
    assert line_chart("t", [Line("a", [(0, 2.0)], dots=True)], (0, 0)) is not None


def test_labels_are_escaped():
    chart = line_chart("<b>", [Line('"><script>', [(0, 1.0)])], (0, 1), rules=[(0.5, "<i>")])
    assert "<script>" not in chart.plot
    assert "<i>" not in chart.plot
    assert "<b>" not in chart.plot


def test_smoothing_by_hand():
    points = [(0, 0.0), (1, 3.0), (2, float("nan")), (3, 6.0)]
    assert smooth(points, 3) == [(0, 1.5), (1, 3.0), (3, 4.5)]
    assert smooth(points[:2], 1) == points[:2]
