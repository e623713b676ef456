"""Training samples as files hold them. How they become batches: data.py."""
