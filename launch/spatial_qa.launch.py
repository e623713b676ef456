"""Starts the node spatial_qa, and with clip:=PATH a player that stands in for the camera. Decides nothing else."""

from __future__ import annotations

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchContext, LaunchDescription

FROM_FILE = " Empty: what params_file says."
BOOLS = ["true", "false", "True", "False"]

# Text arguments that override the parameter of the same name when they are given
TEXT = {
    "model": "Model spec: a preset, a folder, or base=PATH,adapter=PATH,cut3r=PATH." + FROM_FILE,
    "device": "Where the model runs: auto, cpu, cuda or cuda:N." + FROM_FILE,
    "camera": "Image topic of the camera, for example /camera/image_raw; empty: what params_file says, by default "
    "image_raw in the namespace.",
    "image_transport": "raw: sensor_msgs/Image; compressed: sensor_msgs/CompressedImage on the topic's /compressed."
    + FROM_FILE,
}


def arguments() -> list[DeclareLaunchArgument]:
    """Every argument of this launch file with its description."""
    default_file = PathJoinSubstitution([ThisLaunchFileDir(), "spatial_qa.yaml"])
    return [
        *(DeclareLaunchArgument(name, default_value="", description=text) for name, text in TEXT.items()),
        DeclareLaunchArgument(
            "rotate",
            default_value="",
            choices=["", "0", "90", "180", "270"],
            description="Degrees the image is turned clockwise, for a camera mounted sideways." + FROM_FILE,
        ),
        DeclareLaunchArgument("namespace", default_value="vlm3r", description="Namespace of the nodes."),
        DeclareLaunchArgument("params_file", default_value=default_file, description="YAML file of parameters."),
        DeclareLaunchArgument(
            "clip",
            default_value="",
            description="Video, folder of images or bag that is played as the camera; empty: a real camera.",
        ),
        DeclareLaunchArgument(
            "loop",
            default_value="false",
            choices=BOOLS,
            description="Play the clip again and again; false: once, and questions soon find the view too old.",
        ),
        DeclareLaunchArgument(
            "use_sim_time", default_value="false", choices=BOOLS, description="Take the time from /clock."
        ),
        DeclareLaunchArgument(
            "autostart",
            default_value="true",
            choices=BOOLS,
            description="The node configures and activates itself; false: a lifecycle manager does.",
        ),
        DeclareLaunchArgument(
            "respawn",
            default_value="false",
            choices=BOOLS,
            description="Start the node again when its process ends or its model fails.",
        ),
        DeclareLaunchArgument(
            "log_level",
            default_value="info",
            choices=["debug", "info", "warn", "error", "fatal"],
            description="Least severity that is logged.",
        ),
    ]


def nodes(context: LaunchContext) -> list[Node]:
    """The processes, from the arguments' values."""

    def text(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    def flag(name: str) -> bool:
        return text(name).lower() == "true"

    sim_time = {"use_sim_time": flag("use_sim_time")}
    # as text whatever it looks like: a model folder may be called 7
    given = {name: ParameterValue(text(name), value_type=str) for name in TEXT if text(name)}
    if text("rotate"):
        given["rotate"] = int(text("rotate"))
    if flag("respawn"):
        given["exit_on_failure"] = True
    spatial_qa = Node(
        package="vlm3r",
        executable="spatial_qa_node",
        name="spatial_qa",
        namespace=text("namespace"),
        parameters=[text("params_file"), {**sim_time, **given, "autostart": flag("autostart")}],
        respawn=flag("respawn"),
        respawn_delay=2.0,
        # the node gives its model 10 s to finish
        sigterm_timeout="15",
        ros_arguments=["--log-level", text("log_level")],
        output="screen",
    )
    return [spatial_qa, *([player(text, flag, sim_time)] if text("clip") else [])]


def player(text, flag, sim_time: dict) -> Node:
    """The clip as a camera, on the topic the node listens to."""
    camera = text("camera")
    remappings = [("image_raw", camera), ("image_raw/compressed", f"{camera}/compressed")] if camera else []
    return Node(
        package="vlm3r",
        executable="camera_player",
        name="camera_player",
        namespace=text("namespace"),
        parameters=[
            {
                **sim_time,
                "clip": ParameterValue(text("clip"), value_type=str),
                "loop": flag("loop"),
                "compressed": text("image_transport") == "compressed",
            }
        ],
        remappings=remappings,
        ros_arguments=["--log-level", text("log_level")],
        output="screen",
    )


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch vlm3r spatial_qa.launch.py` starts."""
    return LaunchDescription([*arguments(), OpaqueFunction(function=nodes)])
