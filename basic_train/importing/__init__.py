"""Checkpoints of others as checkpoints of ours: read without running their code, mapped tensor by tensor."""
