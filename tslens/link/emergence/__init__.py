"""What a model can do, and what its heads do, over the checkpoints of its training; and which comes first."""
