"""What does one decision by each criterion do to the loss?"""
