"""Imports checkpoints of other projects tensor by tensor, without running their code."""
