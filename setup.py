"""What the wheel and the colcon install contain. Names, versions and dependencies are in pyproject.toml."""

from glob import glob

from setuptools import find_packages, setup

NODE_SOURCES = "ros2_ws/src"

setup(
    python_requires=">=3.11",
    license="Apache-2.0",
    packages=[
        *find_packages(include=["vlm3r_core", "vlm3r_core.*"]),
        *find_packages(NODE_SOURCES, include=["vlm3r_ros", "vlm3r_ros.*"]),
    ],
    package_dir={"vlm3r_ros": f"{NODE_SOURCES}/vlm3r_ros"},
    package_data={"vlm3r_core": ["assets/**/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/vlm3r"]),
        ("share/vlm3r", ["package.xml"]),
        ("share/vlm3r/launch", sorted(glob("launch/*.launch.py") + glob("launch/*.yaml"))),
    ],
    zip_safe=False,
)
