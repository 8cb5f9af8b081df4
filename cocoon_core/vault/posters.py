"""The first picture of a film of one's own, made small, where FFmpeg is installed. The one importer of PyAV.

Cocoon neither brings FFmpeg nor needs it: its wheels come under the GPL and are larger than all of Cocoon. Who installs
the extra `codecs` has posters. Only films that a member of this device adds are decoded. Spec: specs/media.md §6.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, Final

from cocoon_core.errors import MalformedError, MissingLibraryError
from cocoon_core.vault.file_types import FileType
from cocoon_core.vault.images import MAX_PIXELS, Preview, require_pillow, shrink
from cocoon_core.vault.stripped import Stripped

if TYPE_CHECKING:
    from PIL import Image

_FORMS: Final = {
    **dict.fromkeys(("video/mp4", "video/quicktime", "video/3gpp"), "mov"),
    **dict.fromkeys(("video/webm", "video/x-matroska"), "matroska"),
}
_MOST_PACKETS: Final = 200  # that are read until one gives a picture
_BY_ANGLE: Final = {90: 8, -270: 8, 180: 3, -180: 3, -90: 6, 270: 6}  # counterclockwise degrees to orientation


def make_poster(file: BinaryIO, file_type: FileType, stripped: Stripped) -> Preview | None:
    """The first picture of a film, upright. None where FFmpeg is not installed, or for other types.

    Raises:
        MissingLibraryError: Pillow is not installed.
        MalformedError: it cannot be decoded, or has more pixels than are decoded.
    """
    form = _FORMS.get(file_type.mime)
    try:
        import av
    except ImportError:
        return None
    if form is None:
        return None
    require_pillow()
    if not 0 < (stripped.width or 0) * (stripped.height or 0) <= MAX_PIXELS:
        raise MalformedError("this film does not say how large it is, or is larger than is decoded")
    try:
        file.seek(0)
        with av.open(file, "r", format=form, metadata_errors="ignore") as container:
            stream = container.streams.video[0]
            if stream.codec_context.width * stream.codec_context.height > MAX_PIXELS:
                raise MalformedError("this film is larger than is decoded")
            for number, packet in enumerate(container.demux(stream)):
                for frame in packet.decode():
                    picture: Callable[[], Image.Image] = frame.to_image
                    return shrink(picture(), _BY_ANGLE.get(int(frame.rotation), 1))
                if number >= _MOST_PACKETS:
                    break
    except (MalformedError, MissingLibraryError):
        raise
    except Exception as error:  # FFmpeg's errors are of many classes
        raise MalformedError(f"this film cannot be decoded ({type(error).__name__})") from error
    raise MalformedError("this film has no picture at its beginning")
