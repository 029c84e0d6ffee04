"""How long do solvers take for the same mask?"""
