"""Loss by operations of training: which size is best for a budget, and how that size grows with it."""
