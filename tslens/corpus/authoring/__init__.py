"""How the offline author works: plan, telling, the marks in its sentences, gold labels."""
