"""Stories and summaries asked of a large model: plans, prompts, and gates that mark what was not followed."""
