"""Stories: reading them, writing them, their tokens and the labels that follow from characters alone."""
