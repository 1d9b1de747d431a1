"""Trajectories: sequences of parameters that are read when they are needed."""

from symport.trajectory._recorder import Recorder, step_files
from symport.trajectory._trajectory import LinearTrajectory, Trajectory

__all__ = ["LinearTrajectory", "Recorder", "Trajectory", "step_files"]
