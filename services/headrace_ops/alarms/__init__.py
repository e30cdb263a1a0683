"""Alarms: what an operator must look at, told once when it begins and once when it ends."""
