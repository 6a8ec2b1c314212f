"""Zip files from outside: read within limits, and refused if they are not what they should be."""

import stat
import struct
import zipfile
from pathlib import Path
from random import Random

import pytest

from emotion.datasets import archives
from emotion.datasets.archives import open_zip, zip_members
from emotion.errors import DataError
from small_data import wav, write_zip


def members(path: Path, **options) -> dict[str, bytes]:
    with open_zip(path) as archive:
        return {member.path: member.read() for member in zip_members(archive, **options)}


def test_hidden_files_of_a_zip_are_left_out(tmp_path):
    files = {"Actor_01/a.wav": b"1", "b.wav": b"2", "deep/er/c.txt": b"3"}
    rubbish = {
        "__MACOSX/Actor_01/._a.wav": b"x",
        ".DS_Store": b"x",
        "Actor_01/._a.wav": b"x",
        "Actor_01/": b"",
    }
    assert members(write_zip(tmp_path / "a.zip", files | rubbish)) == files


def test_a_file_that_is_in_a_zip_twice_must_be_the_same(tmp_path):
    path = tmp_path / "twice.zip"
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("a.wav", b"same")
        archive.writestr("a.wav", b"same")
    assert members(path) == {"a.wav": b"same"}
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("a.wav", b"other")
    with pytest.raises(DataError, match="a.wav twice, with different content"):
        members(path)


@pytest.mark.parametrize(
    "name, fault",
    [
        ("../a.wav", "would leave the folder"),
        ("Actor_01/../../a.wav", "would leave the folder"),
        ("/etc/a.wav", "absolute path"),
        ("C:/a.wav", "absolute path"),
        ("c:a.wav", "absolute path"),
        ("Actor_01\\a.wav", "backslash"),
        ("..\\a.wav", "backslash"),
        ("a\n.wav", "unprintable"),
        ("__MACOSX/../../a.wav", "would leave the folder"),
    ],
)
def test_an_archive_with_a_name_that_leaves_its_folder_is_refused(tmp_path, name, fault):
    path = write_zip(tmp_path / "a.zip", {"good.wav": b"1", name: b"2"})
    with pytest.raises(DataError, match=f"{fault}.*the archive is refused"):
        members(path)


def test_a_name_with_a_zero_byte_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"good.wav": b"1", "a.wavQ.txt": b"2"})
    path.write_bytes(path.read_bytes().replace(b"a.wavQ.txt", b"a.wav\0.txt"))
    with pytest.raises(DataError, match="unprintable"):
        members(path)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_special_files_are_refused(tmp_path, kind):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("a.wav")
        info.external_attr = (kind | 0o644) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="link or a special file"):
        members(path)


def central_directory(data: bytes) -> int:
    return data.index(b"PK\x01\x02")


def test_encrypted_files_are_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"a.wav": b"1"})
    data = bytearray(path.read_bytes())
    data[central_directory(data) + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="is encrypted"):
        members(path)


def test_a_zip_bomb_is_refused_unread(tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.wav", bytes(70 << 20))
    with pytest.raises(DataError, match="over 100 times its size"):
        members(path)


def test_more_than_the_catalogue_allows_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"a.wav": bytes(1000)})
    assert members(path, max_bytes=1000)
    with pytest.raises(DataError, match="would unpack to 1,000 bytes; the catalogue allows 999"):
        members(path, max_bytes=999)


def test_a_file_too_large_to_be_a_clip_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"a.wav": b"1"})
    data = bytearray(path.read_bytes())
    start = central_directory(data)
    data[start + 20 : start + 28] = struct.pack("<II", 600 << 20, 600 << 20)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a file over 536,870,912 bytes"):
        members(path)


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    assert len(members(write_zip(tmp_path / "a.zip", {f"{n}.wav": b"" for n in range(3)}))) == 3
    with pytest.raises(DataError, match="holds 4 files"):
        members(write_zip(tmp_path / "b.zip", {f"{n}.wav": b"" for n in range(4)}))


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_member_is_not_read(tmp_path, compression):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("a.wav", wav(0))
    data = bytearray(path.read_bytes())
    data[3000:3010] = bytes(byte ^ 0xFF for byte in data[3000:3010])
    path.write_bytes(data)
    with pytest.raises(DataError, match="a.wav is damaged"):
        members(path)


@pytest.mark.parametrize("data", [b"", b"<html>not found</html>", "half"])
def test_a_file_that_is_no_zip_is_refused(tmp_path, data):
    path = write_zip(tmp_path / "a.zip", {"a.wav": wav(0)})
    path.write_bytes(path.read_bytes()[:3000] if data == "half" else data)
    with pytest.raises(DataError, match="is not a whole zip file"):
        members(path)


def test_a_zip_with_any_damage_is_read_or_refused(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
        for number, method in enumerate(methods):
            archive.writestr(f"{number}.wav", bytes(range(40)), compress_type=method)
    data, random = path.read_bytes(), Random(0)
    outcomes = set()
    for _ in range(3_000):
        damaged = bytearray(data)
        for _ in range(random.choice((1, 2, 4))):
            place = random.randrange(len(data))
            damaged[place : place + 4] = random.choice((random.randbytes(1), b"\xff" * 4, bytes(4), b"\xff\xff"))
        if random.random() < 0.2:
            del damaged[random.randrange(len(damaged)) :]
        path.write_bytes(damaged)
        try:
            outcomes.add(len(members(path)))
        except DataError:
            outcomes.add("refused")
    assert {"refused", 4} <= outcomes
