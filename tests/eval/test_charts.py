"""Charts: where points land, ticks, escaping."""

from xml.etree import ElementTree

from rlcap.eval.report.charts import LABEL_ROWS, Line, line_chart, line_style, nice_ticks, place_labels, smooth


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


def test_ten_lines_have_ten_styles_and_few_share_a_colour():
    styles = [line_style(number) for number in range(64)]
    assert len(set(styles)) == 64
    assert len({style.colour for style in styles[:8]}) == 8
    assert len({style.dashes for style in styles[:8]}) == 8
    chart = line_chart("t", [Line(str(i), [(0, 0.0), (1, float(i))]) for i in range(12)], (0, 1))
    paths = [element for element in str(chart.plot).split("<path ") if 'class="line' in element]
    looks = {
        (path.split('class="')[1].split('"')[0], path.split("dasharray=")[-1] if "dasharray" in path else "")
        for path in paths
    }
    assert len(paths) == len(looks) == 12


def test_labels_that_would_overlap_stand_above_each_other():
    assert place_labels([(10, "bags of 3"), (50, "5"), (60, "7")]) == [0, 0, 0]
    assert place_labels([(10, "bags of 3"), (12, "5"), (14, "7"), (15, "10")]) == [0, 1, 2, None]
    assert place_labels([]) == []
    assert LABEL_ROWS == 3


def test_a_line_at_the_floor_needs_no_room_below_it():
    chart = line_chart("t", [Line("", [(0, 0.0), (1, 0.0)])], (0, 1), floor=0)
    assert "−" not in chart.plot
