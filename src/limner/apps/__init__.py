"""What one does with a trained thing."""
