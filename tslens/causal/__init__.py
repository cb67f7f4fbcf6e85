"""Interventions on a model: what happens without a component."""
