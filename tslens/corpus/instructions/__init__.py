"""The instruction variant of a corpus: what a story was asked for, before the story; and whether a story does it."""
