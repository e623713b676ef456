"""The simulator on ROS 2: a robot for others to drive, and the client of the node. All of sim/ that imports rclpy."""

from sim.ros_bridge.client import NodeClient

__all__ = ["NodeClient"]
