"""How diverse stories are: shared runs of words, copying, novelty; the nearest training story, found exactly."""
