"""A room with two things in it as files, and a program that looks at the simulated robot. No assertions here."""

import json
import os
import subprocess
import sys
import time

import trimesh
from geometry_msgs.msg import PoseStamped, Twist, TwistStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import String
from std_srvs.srv import Trigger

PATIENCE_S = 120.0
CAMERA_TOPICS = {"image_raw": Image, "image_raw/compressed": CompressedImage, "depth": Image, "camera_info": CameraInfo}
ROBOT_TOPICS = {"pose": PoseStamped, "camera_pose": PoseStamped, "command/reply": String, "/clock": Clock}
# depth and width of the room, metres: room enough to drive
SIZE_M = (7.0, 5.0)


def write_room(folder) -> str:
    """A floor with walls, a red sofa and a blue table, Z up, and what they are; the path of the mesh."""
    width, depth = SIZE_M
    parts = {
        "floor": ([0, 0, -0.1], [width, depth, 0], (150, 120, 90)),
        "west": ([-0.1, 0, 0], [0, depth, 2.5], (200, 180, 160)),
        "east": ([width, 0, 0], [width + 0.1, depth, 2.5], (160, 180, 200)),
        "south": ([0, -0.1, 0], [width, 0, 2.5], (160, 200, 160)),
        "north": ([0, depth, 0], [width, depth + 0.1, 2.5], (200, 200, 150)),
        "sofa": ([0.1, 1.0, 0], [0.9, 3.0, 0.8], (220, 30, 30)),
        "table": ([5.5, 0.2, 0], [6.8, 1.0, 0.7], (30, 30, 220)),
    }
    to_y_up = trimesh.transformations.rotation_matrix(-1.5707963267948966, [1, 0, 0])
    scene = trimesh.Scene()
    for name, (low, high, colour) in parts.items():
        box = trimesh.creation.box(bounds=[low, high])
        material = trimesh.visual.material.PBRMaterial(baseColorFactor=[*colour, 255])
        box.visual = trimesh.visual.TextureVisuals(material=material)
        scene.add_geometry(box.apply_transform(to_y_up), node_name=name, geom_name=name)
    (folder / "room.glb").write_bytes(scene.export(file_type="glb"))
    things = [
        {"name": name, "category": name, "aabb_min": parts[name][0], "aabb_max": parts[name][1]}
        for name in ("sofa", "table")
    ]
    (folder / "room.json").write_text(json.dumps(things))
    return str(folder / "room.glb")


def start_bridge(world: str, log, *arguments, namespace: str) -> subprocess.Popen:
    """`python -m sim.ros_bridge` with its output in a file."""
    small = ("--width-px", "64", "--height-px", "48", "--camera-height-m", "1.2")
    command = [sys.executable, "-m", "sim.ros_bridge", "--world", world, *small, *map(str, arguments)]
    with log.open("wb") as file:
        return subprocess.Popen(
            [*command, "--ros-args", "-r", f"__ns:={namespace}"], stdout=file, stderr=subprocess.STDOUT, env=os.environ
        )


class Driver:
    """Listens to all a robot publishes and drives it."""

    def __init__(self, process, log, namespace: str, reliability=ReliabilityPolicy.BEST_EFFORT, stamped: bool = False):
        self.process, self.log = process, log
        self.node = Node("driver", namespace=namespace)
        self.got = {topic: [] for topic in (*CAMERA_TOPICS, *ROBOT_TOPICS)}
        for topic, kind in CAMERA_TOPICS.items():
            self._listen(kind, topic, QoSProfile(depth=50, reliability=reliability))
        for topic, kind in ROBOT_TOPICS.items():
            self._listen(kind, topic, 100)
        self.speeds = self.node.create_publisher(TwistStamped if stamped else Twist, "cmd_vel", 10)
        self.commands = self.node.create_publisher(String, "command", 10)
        self.resetter = self.node.create_client(Trigger, "sim_bridge/reset")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)

    def close(self):
        self._executor.shutdown()
        self.node.destroy_node()

    def _listen(self, kind, topic, qos):
        self.node.create_subscription(kind, topic, self.got[topic].append, qos)

    def until(self, condition, what: str):
        """Spins until condition() is true; returns what it returned."""
        deadline = time.monotonic() + PATIENCE_S
        while not (value := condition()):
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise TimeoutError(f"no {what}; the bridge says:\n{self.log.read_text()}")
            self._executor.spin_once(timeout_sec=0.02)
        return value

    def pass_time(self, seconds: float):
        """Spins until so much simulated time has passed, however slow this machine is."""
        begin_s = self.now_s()
        self.until(lambda: self.now_s() > begin_s + seconds, f"clock {seconds} s later")

    def now_s(self) -> float:
        """Simulated time."""
        newest = self.got["/clock"][-1].clock
        return newest.sec + newest.nanosec * 1e-9

    def connect(self):
        for publisher in (self.speeds, self.commands):
            self.until(lambda each=publisher: each.get_subscription_count(), "subscriber")
        self.until(lambda: all(self.got[topic] for topic in (*CAMERA_TOPICS, "pose", "/clock")), "message of each kind")

    def fresh(self, topic: str):
        """The next message of a topic."""
        count = len(self.got[topic])
        self.until(lambda: len(self.got[topic]) > count, topic)
        return self.got[topic][-1]

    def drive(self, twist: Twist):
        self.speeds.publish(twist if self.speeds.msg_type is Twist else TwistStamped(twist=twist))

    def order(self, word: str) -> str:
        """Sends a command; returns what the robot says to it."""
        count = len(self.got["command/reply"])
        self.commands.publish(String(data=word))
        self.until(lambda: len(self.got["command/reply"]) > count, f"reply to {word}")
        return self.got["command/reply"][count].data

    def reset(self) -> Trigger.Response:
        self.until(self.resetter.service_is_ready, "reset service")
        future = self.resetter.call_async(Trigger.Request())
        self.until(future.done, "reply to reset")
        return future.result()
