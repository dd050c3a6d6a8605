"""What everything else may use: errors, the border to the system, files, units."""
