"""What a start reads, known before it starts."""
