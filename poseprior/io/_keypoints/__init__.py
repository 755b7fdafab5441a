"""What `read_keypoints` is made of: files of many programs, the people in them, layouts and units of points."""
