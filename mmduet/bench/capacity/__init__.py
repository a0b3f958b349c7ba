"""Predicts how many streams a machine holds, from measured step times: a discrete-event simulation of engine and streams."""
