"""What logged propensities allow: slate policies, replay, estimates, calibration."""
