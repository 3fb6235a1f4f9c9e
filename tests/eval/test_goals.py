"""Which variant is best and how surely: goals, the Pareto frontier, and the sentences."""

from __future__ import annotations

import numpy as np

from rlcap.eval.goals import describe_choice, describe_goal, find_goals, undominated

CLUSTERS = list(range(40))


def columns(recall, false, facts):
    """Three metrics of variants with these means; images differ, variants differ by a constant."""
    spread = np.linspace(-0.1, 0.1, 40)
    names = {"bag5_recall_at_1": recall, "hallucination_rate": false, "fact_recall": facts, "mean_words": recall}
    return {name: [[mean + spread] for mean in means] for name, means in names.items()}


def test_a_variant_that_is_clearly_best_at_everything():
    goals = find_goals(columns([0.5, 0.7], [0.2, 0.1], [0.4, 0.6]), CLUSTERS)
    assert [goal.metric for goal in goals] == ["bag5_recall_at_1", "hallucination_rate", "fact_recall"]
    assert [(goal.best, goal.clear) for goal in goals] == [(1, (0,))] * 3
    assert undominated(goals) == [1]
    assert describe_choice(goals, ["a", "b"]) == "b is best at every goal, clearly in all 3."
    told = describe_goal(goals[1], ["a", "b"]).replace("\xa0", " ")
    assert told.startswith("More faithful: b, 10.0 % [")
    assert told.endswith("“False claims among claims”; clearly better than a.")


def test_a_difference_that_chance_explains_is_called_unclear():
    table = columns([0.5, 0.5], [0.1, 0.1], [0.4, 0.4])
    table["bag5_recall_at_1"][1] = [0.5 + np.tile([0.2, -0.19], 20)]
    goals = find_goals(table, CLUSTERS)
    assert (goals[0].best, goals[0].clear) == (1, ())
    assert "no clear difference to a" in describe_goal(goals[0], ["a", "b"])
    told = describe_choice(goals, ["a", "b"])
    assert told.startswith(
        "b is best at every goal, but clearly in none, so that another seed or other images may decide"
    )
    table["fact_recall"] = [[np.full(40, 0.5)], [np.full(40, 0.4)]]
    told = describe_choice(find_goals(table, CLUSTERS), ["a", "b"])
    assert "b is the most distinctive by its mean, but not clearly" in told


def test_a_trade_off_names_who_is_best_at_what_and_who_is_beaten():
    goals = find_goals(columns([0.5, 0.7, 0.45], [0.1, 0.2, 0.25], [0.4, 0.6, 0.3]), CLUSTERS)
    assert undominated(goals) == [0, 1]
    assert describe_choice(goals, ["a", "b", "c"]) == (
        "No variant is best at everything: b is clearly the most distinctive, a is clearly the most faithful and b is clearly the "
        "most detailed. "
        "c is beaten in all of them."
    )


def test_a_tie_does_not_keep_a_variant_from_being_best():
    goals = find_goals(columns([0.5, 0.7], [0.1, 0.1], [0.4, 0.6]), CLUSTERS)
    assert describe_choice(goals, ["a", "b"]) == "b is best at every goal, clearly in 2 of 3."


def test_without_a_goal_nothing_is_said():
    goals = find_goals({"mean_words": [[np.ones(40)], [np.ones(40)]]}, CLUSTERS)
    assert goals == ()
    assert describe_choice(goals, ["a", "b"]) == ""
    assert undominated(goals) == []
