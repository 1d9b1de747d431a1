"""What is found in architectures whose symmetry is known."""

__all__ = []
