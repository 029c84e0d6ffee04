"""Claims, proofs, and the means to check them.

`checker` imports nothing but the standard library, so this module must not import the others.
"""
