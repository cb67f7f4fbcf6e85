"""Whether a component with a role feeds a later head: direct paths cut one by one, beside controls."""
