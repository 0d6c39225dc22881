"""The evaluation of the paper: its figures, and which of its claims hold.

Figures are described in ``figures/*.yaml``, claims in ``figures/claims.yaml``.
"""
