"""TFDS builders of pairs of pictures: `python -m data.tfds_builders --input DIR --output DATA_DIR --scale 4`.

Writes a paired folder (split "train"), or with `--benchmark` a folder of sets (one split each), in any layout that
`folders.find_pairs` knows; LR pictures that are missing are made as MATLAB does. The version's folder that it prints is
what `--config.data.dir` takes, with `--config.data.source=folder`.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from etils import epath

from data.cpu_tensorflow import tfds
from data.folders import Choice, add_choice, find_datasets, find_pairs, read_choice
from msnlan_jax.errors import InputError
from msnlan_jax.pictures import Pair, read_pair
from msnlan_jax.runtime import command


@dataclasses.dataclass(eq=False)
class PairsConfig(tfds.core.BuilderConfig):
    """Which pictures to write; give it a name of its own, such as "x4".

    Attributes:
        folder: the data set, or the folder of benchmark sets.
        scale: up-scaling factor.
        sets: names of the benchmark sets; all of them when empty.
        choice: which folders hold the pictures, where that is not to be found.
    """

    folder: str = ""
    scale: int = 4
    sets: Sequence[str] = ()
    choice: Choice | None = None


class _Pairs(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    VERSION = tfds.core.Version("1.0.0")
    builder_config: PairsConfig

    def _info(self) -> tfds.core.DatasetInfo:
        features = {"lr": tfds.features.Image(), "hr": tfds.features.Image(), "name": tfds.features.Text()}
        return tfds.core.DatasetInfo(
            builder=self,
            description="Pairs of low- and high-resolution pictures.",
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("lr", "hr"),
        )

    def _generate_examples(self, pairs: list[Pair]) -> Iterator[tuple[str, dict[str, Any]]]:
        for pair in pairs:
            lr, hr = read_pair(pair, self.builder_config.scale)
            yield pair.name, {"lr": lr, "hr": hr, "name": pair.name}


class PairedFolder(_Pairs):
    """One data set in any of `folders.find_pairs`'s layouts, as split "train"; raises as `read_pair`."""

    def _split_generators(self, _: Any) -> dict[str, Any]:
        config = self.builder_config
        pairs = find_pairs(config.folder, config.scale, split="train", choice=config.choice)
        return {"train": self._generate_examples(pairs)}


class BenchmarkSets(_Pairs):
    """Benchmark sets, each of them a split; raises as `folders.find_datasets` and `read_pair`."""

    def _split_generators(self, _: Any) -> dict[str, Any]:
        config = self.builder_config
        sets = find_datasets(config.folder, config.sets, config.scale, choice=config.choice)
        return {name: self._generate_examples(pairs) for name, pairs in sets.items()}


def write(builder: type[_Pairs], config: PairsConfig, data_dir: epath.PathLike) -> epath.Path:
    """Write a data set; return its version's folder. One that is there already is refused.

    Raises:
        FileNotFoundError, InputError: as the builder; and when the set is there.
    """
    made = builder(config=config, data_dir=data_dir)
    if made.is_prepared():
        raise InputError(f"--output: found {made.data_path}, expected a folder without it")
    made.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False), file_format="tfrecord"
    )
    return epath.Path(made.data_path)


def main() -> None:
    """Write a data set as the flags say."""
    parser = command.Parser("python -m data.tfds_builders", description=__doc__)
    parser.add_argument("--input", type="path", required=True, help="data set, or with --benchmark a folder of sets")
    parser.add_argument("--output", type="path", required=True, help="TFDS data_dir")
    parser.add_argument("--scale", type=int, choices=(2, 3, 4), default=4, help="up-scaling factor (%(default)s)")
    parser.add_argument("--benchmark", action="store_true", help="write every set in --input as a split")
    add_choice(parser)
    flags = parser.parse_args()
    config = PairsConfig(name=f"x{flags.scale}", folder=flags.input, scale=flags.scale, choice=read_choice(flags))
    print(write(BenchmarkSets if flags.benchmark else PairedFolder, config, flags.output))


if __name__ == "__main__":
    command.run(main)
