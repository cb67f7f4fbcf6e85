"""Heads from weights alone: what W_Q W_K and W_V W_O say of token-to-token relations, held against attention.

``relations`` counts token pairs, ``vectors`` and ``circuits`` score them, ``agreement`` compares rankings of heads.
"""
