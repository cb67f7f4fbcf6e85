"""Labels of stories as a study uses them: how far is it from a pronoun back to what it stands for?"""

from collections import Counter

import tslens

distances: Counter[int] = Counter()
for story in tslens.write_stories(50, seed=0):
    labels = tslens.read_labels(story)
    for pronoun, (antecedent,) in tslens.relation_pairs(story.text, labels)["antecedent"]:
        distances[pronoun - antecedent] += 1
    twin = tslens.corrupt(story, labels, "changed_pronoun", "one", seed=0)
    if story.extra["index"] == 0 and twin:
        ((start, end),) = twin.spans
        print("a twin:", twin.text[max(0, start - 40) : end + 20].replace("\n", " "))

total = distances.total()
for low, high in ((1, 5), (6, 15), (16, 40), (41, 400)):
    share = sum(n for distance, n in distances.items() if low <= distance <= high) / total
    print(f"{low:3} to {high:3} words and marks back: {share:.0%} of {total} pronouns")
