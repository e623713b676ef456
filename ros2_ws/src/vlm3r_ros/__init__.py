"""The ROS 2 side of vlm3r: thin users of vlm3r_core. No model code."""
