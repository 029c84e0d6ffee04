"""The Hessian diagonal, from several sources."""
