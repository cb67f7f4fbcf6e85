"""Roles as programs: predictors that read text only and give a pattern, held against heads and put in their place."""
