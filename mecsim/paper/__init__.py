"""The evaluation of the paper: its figures, and what of its claims holds.

Figures are described in ``mecsim/paper/figures/*.yaml``, claims in ``mecsim/figures/claims.yaml``.
"""
