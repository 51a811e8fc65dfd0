"""Numbers about quality: what two label maps have in common, case by case and over a data set."""
