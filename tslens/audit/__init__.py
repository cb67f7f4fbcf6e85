"""Audits: what the measures find where the truth is known, and what they claim where there is nothing."""
