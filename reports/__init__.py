"""What is drawn from a run's folder: tables, figures, one HTML file, W&B. Never imports torch."""
