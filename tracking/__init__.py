"""Who is who from frame to frame: trackers give the people of each frame their ids."""
