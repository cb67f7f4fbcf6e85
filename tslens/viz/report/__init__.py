"""The page of ``tslens report``: several models, their heads, neurons, maps and texts, all linked."""
