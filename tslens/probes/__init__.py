"""Probes of attention heads: one file a probe; ``base`` finds them, ``scan`` runs them all in one pass."""
