"""How good and how fast are transposable N:M masks, against a greedy and a solver?"""
