"""What each head's attention follows, distance or tokens, by held-out deviance, and whether heads are of two kinds."""
