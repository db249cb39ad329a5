"""Pictures as arrays of uint8 or uint16: reading, writing and resizing them exactly, and pairs of HR and LR."""

from msnlan_jax.pictures.bicubic import (
    Bicubic,
)
from msnlan_jax.pictures.depth import (
    AnyPicture,
)
from msnlan_jax.pictures.images import (
    DEEP_LEVEL,
    DEEP_SUFFIXES,
    IMAGE_SUFFIXES,
    WRITTEN_SUFFIXES,
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
from msnlan_jax.pictures.layouts import (
    FolderName,
    Matches,
    PictureName,
    count_scales,
    match_names,
    read_folder_name,
    read_picture_name,
    set_name,
    split_mixed,
)
from msnlan_jax.pictures.pairs import (
    Pair,
    crop_to,
    describe_lr,
    fits_size,
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
    "FolderName",
    "Matches",
    "Pair",
    "Photo",
    "Picture",
    "PictureName",
    "RGBPicture",
    "check_suffix",
    "count_scales",
    "crop_to",
    "describe_lr",
    "fits_size",
    "imresize",
    "list_images",
    "match_names",
    "read_folder_name",
    "read_image",
    "read_pair",
    "read_photo",
    "read_picture_name",
    "read_rgb",
    "set_name",
    "split_mixed",
    "to_8_bits",
    "to_rgb",
    "write_image",
]
