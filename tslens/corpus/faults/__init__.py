"""Named faults of stories: one module per family, each with the places that can carry it and the change itself."""
