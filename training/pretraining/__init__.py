"""Pre-training of small encoders: settings, clips on disk, losses, metrics, the loop. Command line: pretrain.py."""
