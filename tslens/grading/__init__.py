"""Grades of what a model writes: the prompts it is given, and what is made of its answers."""
