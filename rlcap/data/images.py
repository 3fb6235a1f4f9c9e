"""Images as the data's users see them: opening, checking and limiting them, and their `ImageError`.

The code stands in `rlcap.scorers.images`, one floor below, because the frozen scorers open images too and know nothing
of data sets.
"""

from rlcap.scorers.images import (
    MAX_PIXELS,
    ImageError,
    check_image,
    content_key,
    decode_image,
    limit_pixels,
    open_image,
)

__all__ = ["MAX_PIXELS", "ImageError", "check_image", "content_key", "decode_image", "limit_pixels", "open_image"]
