"""A probe of one's own: which heads look at the last colour or size? Intervals, nulls, cause, a page come with it."""

import sys
from dataclasses import replace

import tslens
from tslens.corpus.words import find_words
from tslens.probes.relation import RelationProbe
from tslens.probes.units import LabelNeeds, last_earlier

COLOURS = {"red", "blue", "green", "yellow", "brown", "white", "black", "pink", "big", "little", "small"}


class LastColour(RelationProbe):
    """From every word to the last colour or size before it; like words are words of its part of speech."""

    name = relation = "last_colour"
    description = "looks at the last colour or size"
    served = "every prediction of a word"
    labels = LabelNeeds(scheme=True, users=("colour",))

    def pairs(self, batch):  # noqa: D102
        return last_earlier(batch.units.is_word, batch.marked["colour"])


model = tslens.load_model(sys.argv[1] if len(sys.argv) > 1 else "shipped:l1_h64")
stories = []
for story in tslens.write_stories(60, seed=0):
    is_colour = [story.text[start:end].lower() in COLOURS for start, end in find_words(story.text)]
    stories.append(replace(story, extra={**story.extra, "colour": is_colour}))
report = tslens.score_heads(model, stories, probes=[LastColour()], n_explain=20, seed=0)
tslens.write_atlas("colours.html", report, model, stories, name="the model")
print(report.to_pandas()[["head", "value", "excess_low", "basis", "status"]])
print("wrote colours.html: open it in a browser")
