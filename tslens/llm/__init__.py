"""The one client of OpenAI-compatible servers: ledger, budget, retries, batches."""
