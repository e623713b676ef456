"""The generated messages of vlm3r_interfaces, or the way to build them. Nothing is defined here."""

from __future__ import annotations

try:
    from vlm3r_interfaces.action import AnswerQuestion
    from vlm3r_interfaces.msg import RouteStep, SpatialState
    from vlm3r_interfaces.srv import AskSpatial, FilePath, PlanRoute
except ModuleNotFoundError as error:
    if error.name is None or not error.name.startswith("vlm3r_interfaces"):
        raise
    raise ModuleNotFoundError(
        "vlm3r_interfaces is not built or not on the Python path. In the vlm3r checkout run `make setup`; in a ROS 2 "
        "workspace run `colcon build --packages-select vlm3r_interfaces` (its source is "
        "ros2_ws/src/vlm3r_interfaces) and source install/setup.bash in this terminal",
        name=error.name,
    ) from error

__all__ = ["AnswerQuestion", "AskSpatial", "FilePath", "PlanRoute", "RouteStep", "SpatialState"]
