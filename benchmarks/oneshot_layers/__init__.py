"""Which method comes nearest to the outputs of a layer, and by how much are the others wrong?"""
