"""How fast do the checkers read a certificate?"""
