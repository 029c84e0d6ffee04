"""The first-order gain within a bound on the curvature cost."""
