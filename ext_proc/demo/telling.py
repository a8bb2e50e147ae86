"""What the parts of the story share."""


class StoryError(Exception):
    """Something was not as told."""
