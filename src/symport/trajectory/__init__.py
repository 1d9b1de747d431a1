"""Trajectories: the parameters of a training run step by step, read when needed."""

from symport.trajectory._recorder import Recorder, step_files
from symport.trajectory._trajectory import LinearTrajectory, Trajectory

__all__ = ["LinearTrajectory", "Recorder", "Trajectory", "step_files"]
