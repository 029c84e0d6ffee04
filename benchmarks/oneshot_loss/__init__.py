"""What does pruning a language model in one shot do to the loss, predicted and measured?"""
