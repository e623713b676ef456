"""What walks are made of: rounded ways and places worth a look. The walk itself is in sim/walks.py."""
