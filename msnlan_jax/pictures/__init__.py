"""Pictures as arrays of uint8: reading, writing and resizing them exactly, and pairs of HR and LR."""

from msnlan_jax.pictures.bicubic import (
    Bicubic,
)
from msnlan_jax.pictures.images import (
    IMAGE_SUFFIXES,
    Photo,
    Picture,
    RGBPicture,
    check_suffix,
    list_images,
    read_image,
    read_photo,
    read_rgb,
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
    "IMAGE_SUFFIXES",
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
    "to_rgb",
    "write_image",
]
