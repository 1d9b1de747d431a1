"""Fine-tunes of small transformers ported between bases that were trained here, on real data."""

__all__ = []
