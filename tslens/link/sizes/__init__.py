"""Models of many sizes beside each other: what each can do, how that grows, and what the paper says of it."""
