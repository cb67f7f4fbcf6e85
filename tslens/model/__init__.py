"""Models: their spec from a name, the transformer, loading, export, generation, the n-gram yardstick."""
