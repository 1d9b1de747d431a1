"""Carry a training run over to another network, without training it."""
