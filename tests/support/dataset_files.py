"""Files of datasets, for tests: where recordings lie, catalogues, and what is in a store."""

from __future__ import annotations

from pathlib import Path

import yaml

from emotion.datasets.importing import audio_folder
from emotion.settings import Settings
from emotion.store import Store

SPEECH, BOTH, OWN = "ravdess-speech", "ravdess-speech-song", "labelled-folder"

EMODB = {
    "03a01Wa": ("angry", "03", "male"),
    "08a01Fd": ("happy", "08", "female"),
    "09b10Ec": ("disgust", "09", "female"),
    "10a02Aa": ("fearful", "10", "male"),
    "16b03Ta": ("sad", "16", "female"),
    "12a01Nb": ("neutral", "12", "male"),
}
CORPORA = {
    "nemo": {
        "EB0_anger_1": ("angry", "EB0", "female"),
        "KS0_fear_10": ("fearful", "KS0", "male"),
        "WR0_happiness_86": ("happy", "WR0", "male"),
        "TP0_neutral_58": ("neutral", "TP0", "male"),
        "MK0_sadness_23": ("sad", "MK0", "female"),
        "SM0_surprised_27": ("surprised", "SM0", "male"),
    },
    "emodb": EMODB,
    "emodb-2": EMODB,
    "crema-d": {
        "1001_DFA_ANG_XX": ("angry", "1001", "male"),
        "1002_IEO_DIS_LO": ("disgust", "1002", "female"),
        "1091_IEO_FEA_HI": ("fearful", "1091", "female"),
        "1090_IEO_HAP_MD": ("happy", "1090", "male"),
        "1045_WSI_NEU_XX": ("neutral", "1045", "male"),
        "1040_ITH_SAD_X": ("sad", "1040", "male"),
    },
    "tess": {
        "OAF_back_angry": ("angry", "OAF", "female"),
        "OAF_back_disgust": ("disgust", "OAF", "female"),
        "YAF_shout_fear": ("fearful", "YAF", "female"),
        "YAF_shout_happy": ("happy", "YAF", "female"),
        "OA_bite_neutral": ("neutral", "OAF", "female"),
        "YAF_food_ps": ("surprised", "YAF", "female"),
        "OAF_Food_sad": ("sad", "OAF", "female"),
    },
    "savee": {
        "DC_a01": ("angry", "DC", "male"),
        "JE_d01": ("disgust", "JE", "male"),
        "JK_f01": ("fearful", "JK", "male"),
        "KL/h01": ("happy", "KL", "male"),
        "KL/n30": ("neutral", "KL", "male"),
        "DC/sa15": ("sad", "DC", "male"),
        "DC/su01": ("surprised", "DC", "male"),
    },
}
"""By dataset and published name of a file (without ending): emotion, speaker and gender."""


def recordings(settings: Settings) -> Path:
    """The folder that recordings may come from."""
    return settings.recordings[0]


def with_catalogue(settings: Settings, document: dict) -> Settings:
    """The settings with another catalogue, which is written beside the recordings."""
    file = recordings(settings).parent / "catalogue.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return settings.model_copy(update={"catalogue": file})


def write(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files below a folder; returns the folder."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def own_folder(settings: Settings, files: dict[str, bytes | str], name: str = "mine") -> Path:
    """A folder of recordings of one's own, below the recordings."""
    encoded = {path: data.encode() if isinstance(data, str) else data for path, data in files.items()}
    folder = recordings(settings) / name
    folder.mkdir(exist_ok=True)
    return write(folder, encoded)


def stored_paths(store: Store, name: str) -> list[str]:
    """The paths of a dataset's clips in the store."""
    folder = audio_folder(name)
    return [key.removeprefix(f"{folder}/") for key in store.list(folder)]
