"""What is left after gradual pruning by each method?"""
