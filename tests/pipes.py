"""A stand-in for a pipe."""

import io


class Pipe(io.RawIOBase):
    """A source that cannot be sought in, and gives at most `most` bytes at a time."""

    def __init__(self, content, most=None):
        self.content, self.most = io.BytesIO(content), most

    def readable(self):
        return True

    def readinto(self, buffer):
        return self.content.readinto(memoryview(buffer)[: self.most])
