"""What the page of results says besides its numbers."""

HEAD = ""
NOTE = [""]
