"""What does a decision over many ranks cost?"""
