"""Pictures as arrays of uint8 or uint16: reading, writing and resizing them exactly, and pairs of HR and LR."""

from msnlan_jax.pictures.bicubic import (
    Bicubic,
)
from msnlan_jax.pictures.images import (
    DEEP_LEVEL,
    DEEP_SUFFIXES,
    IMAGE_SUFFIXES,
    WRITTEN_SUFFIXES,
    AnyPicture,
    Photo,
    Picture,
    RGBPicture,
    check_suffix,
    list_images,
    read_image,
    read_photo,
    read_rgb,
    to_8_bits,
    to_rgb,
    write_image,
)
from msnlan_jax.pictures.pairs import (
    Pair,
    crop_to,
    read_pair,
)
from msnlan_jax.pictures.resize import (
    imresize,
)

__all__ = [
    "DEEP_LEVEL",
    "DEEP_SUFFIXES",
    "IMAGE_SUFFIXES",
    "WRITTEN_SUFFIXES",
    "AnyPicture",
    "Bicubic",
    "Pair",
    "Photo",
    "Picture",
    "RGBPicture",
    "check_suffix",
    "crop_to",
    "imresize",
    "list_images",
    "read_image",
    "read_pair",
    "read_photo",
    "read_rgb",
    "to_8_bits",
    "to_rgb",
    "write_image",
]
