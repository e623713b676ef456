"""What recordings are made of: files of pictures and the truth beside them. The recorder itself is in sim/record.py."""
