"""Starts a simulated robot and the node spatial_qa that looks through its camera. Decides nothing else."""

from __future__ import annotations

from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir

from launch import LaunchContext, LaunchDescription

FROM_FILE = " Empty: what params_file says."

# Arguments that override the simulator's parameter of the same name when they are given
ROBOT = {
    "world": "flat:SEED, a mesh file, a folder with one, or habitat:FILE." + FROM_FILE,
    "seed": "Of the robot's first place, its walk and sensor noise." + FROM_FILE,
    "fps": "Pictures a second of simulated time, with a decimal point." + FROM_FILE,
    "realtime_factor": "Simulated seconds a second at most, with a decimal point; 0.0: no limit." + FROM_FILE,
    "walk_frames": "Pictures of a look-around walk shown first; 0: no walk." + FROM_FILE,
    "cmd_vel_stamped": "true: cmd_vel is a TwistStamped, false: a Twist." + FROM_FILE,
}
# Arguments handed on to spatial_qa.launch.py
NODE = {
    "model": ("", "Model spec: a preset, a folder, or base=PATH,adapter=PATH,cut3r=PATH." + FROM_FILE),
    "device": ("", "Where the model runs: auto, cpu, cuda or cuda:N." + FROM_FILE),
    "namespace": ("vlm3r", "Namespace of robot and node."),
    "use_sim_time": ("true", "The node takes its time from the simulator's /clock."),
    "log_level": ("info", "Least severity that is logged: debug, info, warn, error or fatal."),
}


def arguments() -> list[DeclareLaunchArgument]:
    """Every argument of this launch file with its description."""
    default_file = PathJoinSubstitution([ThisLaunchFileDir(), "sim.yaml"])
    return [
        *(DeclareLaunchArgument(name, default_value="", description=text) for name, text in ROBOT.items()),
        *(
            DeclareLaunchArgument(name, default_value=default, description=text)
            for name, (default, text) in NODE.items()
        ),
        DeclareLaunchArgument(
            "params_file", default_value=default_file, description="YAML file of parameters of both."
        ),
        DeclareLaunchArgument(
            "checkout",
            default_value="",
            description="Folder of the vlm3r checkout that holds sim/; empty: the one this file is in, or the current.",
        ),
        DeclareLaunchArgument(
            "python",
            default_value="python3",
            description="Python that runs the simulator; needs the packages of the extra `sim`.",
        ),
    ]


def find_checkout(given: str) -> Path:
    """The folder that holds sim/, which is not installed.

    Args:
        given: where a person says it is; empty: unknown.

    Raises:
        FileNotFoundError: it is not there.
    """
    places = [Path(given)] if given else [Path(__file__).resolve().parents[1], Path.cwd()]
    for place in places:
        if (place / "sim" / "ros_bridge").is_dir():
            return place.resolve()
    raise FileNotFoundError(
        f"the simulator runs from a checkout of vlm3r, there is no sim/ros_bridge in {' or '.join(map(str, places))}; "
        "give checkout:=PATH"
    )


def actions(context: LaunchContext) -> list:
    """The processes, from the arguments' values."""

    def text(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    checkout = find_checkout(text("checkout"))
    given = [part for name in ROBOT if text(name) for part in ("-p", f"{name}:={text(name)}")]
    ros_arguments = ["-r", f"__ns:=/{text('namespace').strip('/')}", "--log-level", text("log_level")]
    ros_arguments += ["--params-file", str(Path(text("params_file")).resolve()), *given]
    robot = ExecuteProcess(
        cmd=[text("python"), "-m", "sim.ros_bridge", "--ros-args", *ros_arguments],
        # `python -m` finds sim in the folder it starts in
        cwd=str(checkout),
        name="sim_bridge",
        output="screen",
    )
    gone = EmitEvent(event=Shutdown(reason="the simulator ended"))
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(Path(__file__).resolve().with_name("spatial_qa.launch.py"))),
        launch_arguments=[(name, text(name)) for name in (*NODE, "params_file")],
    )
    return [robot, RegisterEventHandler(OnProcessExit(target_action=robot, on_exit=[gone])), node]


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch vlm3r sim.launch.py` starts."""
    return LaunchDescription([*arguments(), OpaqueFunction(function=actions)])
