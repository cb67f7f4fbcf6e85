"""The lines of the offline author: each is well marked in every plot and world, told somewhere, and used."""

import re
from collections import defaultdict

import pytest

from tslens.corpus.authoring.gold import label_story
from tslens.corpus.authoring.lines import load_grammar, load_words, parse_line
from tslens.corpus.authoring.markup import plain_text, read_marks
from tslens.corpus.authoring.plan import Plan, draw_plan
from tslens.corpus.authoring.summaries import list_lines
from tslens.corpus.authoring.telling import SETUP_AND_PAYOFF, Teller
from tslens.corpus.dice import Dice
from tslens.labels import FEATURES


@pytest.fixture(scope="module")
def plans() -> dict[tuple[str, str], list[Plan]]:
    """Many plans of each plot and world."""
    found = defaultdict(list)
    dice = Dice("plans")
    for _ in range(8_000):
        plan = draw_plan(dice, frozenset(FEATURES))
        found[plan.plot, plan.world].append(plan)
    assert len(found) == 2 * len(load_grammar().plots) and min(map(len, found.values())) > 50
    return found


@pytest.mark.parametrize("plot", ["any", *load_grammar().plots])
def test_every_line_is_well_marked(plot, plans):
    """Brackets match, each slot and list exists, each stretch has one verb, each subject a verb."""
    for scene, lines in load_grammar().scenes.items():
        if scene.partition(".")[0] != plot:
            continue
        for line in lines:
            tag, _, rest = line.partition(" ") if line.startswith("@") else ("", "", line)
            for draw in range(12):
                dice = Dice(draw, line)
                world = tag[1:] or dice.one_of(("child", "animal"))
                plan = dice.one_of(plans["lost" if plot == "any" else plot, world])
                teller = Teller(plan, dice, (), is_full=False)
                for half in rest.split(SETUP_AND_PAYOFF):
                    told = teller.tell(half)
                    assert read_marks([("opening", told)]).text == plain_text(told)


@pytest.mark.parametrize("plot", load_grammar().plots)
def test_every_line_of_a_summary_is_well_marked(plot, plans):
    for is_bad in (False, True):
        for line in list_lines(plot, is_bad=is_bad):
            for draw in range(6):
                dice = Dice(draw, line.text)
                plan = dice.one_of(plans[plot, dice.one_of(("child", "animal"))])
                told = Teller(plan, dice, (), is_full=False).tell(line.text)
                marked = read_marks([("opening", told)])
                assert 6 <= len(marked.text.split()) <= 30, marked.text
                assert label_story(marked).protagonist == 0


def test_every_scene_is_told_and_every_list_used():
    grammar = load_grammar()
    told = {"any.happy"}
    for plot, parts in grammar.plots.items():
        own = {
            f"{plot}.{name}"
            for name in ("foreshadow", "conflict", "bad", "bad_end", "bad_moral", "twist", "bad_twist")
        }
        told |= own
        for part in ("opening", "problem", "obstacle", "turn", "ending"):
            for scene in parts[part].split():
                name = scene.rstrip("?")
                told.add(name if name.startswith("any.") else f"{plot}.{name}")
    assert told == set(grammar.scenes)
    lines = [line for lines in (*grammar.scenes.values(), *grammar.lists.values()) for line in lines]
    lines += [value for rows in load_words().tables.values() for row in rows for value in row.values()]
    for line in lines:
        parse_line(line)
    used = {name.lower() for line in lines for name in re.findall(r"<(\w+)>", line)}
    assert used == set(grammar.lists)
