"""Do distance heads carry grammar and semantic heads consistency? Groups, matching, readings, figures, verdict."""
