"""The local judge: grades from measured evidence, without a large model. It is not GPT-4 and says so."""
