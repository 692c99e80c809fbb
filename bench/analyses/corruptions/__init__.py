"""What an image goes through before it reaches a network: corruptions by modality, and what they cost."""
