"""Which method loses least when a language model is pruned in one shot?"""
