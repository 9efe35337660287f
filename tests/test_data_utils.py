"""CIFAR-10: download, verify and read."""

import errno
import functools
import hashlib
import http.server
import io
import os
import pickle
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import data_utils
from tandem.core.errors import UserError
from tandem.data.images import fill_color, load_dataset, normalization

import numpy as np
import pytest
from datasets import NAMES, fails, settings_for, synthetic


def dump(content):
    return pickle.dumps(content, protocol=4)


@pytest.fixture
def edition(monkeypatch):
    """Name to bytes of seven files of 20 images each, which the module takes for the published ones."""
    monkeypatch.setattr(data_utils, "IMAGES_PER_FILE", 20)
    files = {"batches.meta": dump({b"label_names": NAMES})}
    for i, name in enumerate(name for name in data_utils.FILES_MD5 if name != "batches.meta"):
        data = synthetic(120).images.reshape(120, 3072)[20 * i : 20 * i + 20].copy()
        files[name] = dump({b"data": data, b"labels": [j % 10 for j in range(20)], b"batch_label": b"x"})
    publish(monkeypatch, files)
    return files


def publish(monkeypatch, files):
    md5s = {name: hashlib.md5(files[name]).hexdigest() for name in data_utils.FILES_MD5}
    monkeypatch.setattr(data_utils, "FILES_MD5", md5s)


def lay(directory, files):
    folder = directory / data_utils.FOLDER
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def pack(path, files, mode="w:gz", extra=()):
    with tarfile.open(path, mode) as tar:
        folder = tarfile.TarInfo(data_utils.FOLDER)
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(folder)
        for name, content in {**files, "readme.html": b"<p>"}.items():
            member = tarfile.TarInfo(f"{data_utils.FOLDER}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in extra:
            tar.addfile(member)
    return path


def test_train_and_test_data_are_read_in_order(tmp_path, edition):
    lay(tmp_path, edition)
    train, test = data_utils.train_data(tmp_path), data_utils.test_data(tmp_path)
    assert train.images.shape == (100, 3, 32, 32) and train.images.dtype == np.uint8
    np.testing.assert_array_equal(np.concatenate([train.images, test.images]), synthetic(120).images)
    assert train.labels.dtype == np.int64 and train.labels.tolist() == list(range(10)) * 10
    assert data_utils.class_names(tmp_path)[:2] == ("airplane", "automobile")


def test_pickles_of_older_numpy_are_read(tmp_path, edition):
    """Where NumPy 2 says numpy._core, the published files, from Python 2, say numpy.core."""
    old = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I20\nI3072\nt"
    old += b"cnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\n"
    old += b"S'" + b"\\x07" * (20 * 3072) + b"'\ntb"
    edition["test_batch"] = b"(dS'data'\n" + old + b"sS'labels'\n(l" + b"I3\na" * 20 + b"s."
    lay(tmp_path, edition)
    images, labels = data_utils.test_data(tmp_path, verify=False)
    assert (images == 7).all() and (labels == 3).all()


class Command:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_malicious_pickle_is_rejected_and_not_run(tmp_path, edition, protocol):
    trace = tmp_path / "ran"
    edition["data_batch_2"] = pickle.dumps({"data": Command(trace)}, protocol=protocol)
    lay(tmp_path, edition)
    with fails("data_batch_2: its md5"):
        data_utils.train_data(tmp_path)
    with fails(r"data_batch_2: .* cannot be unpickled, it asks for posix.system"):
        data_utils.train_data(tmp_path, verify=False)
    assert not trace.exists()
    pickle.loads(edition["data_batch_2"])
    assert trace.exists(), "the pickle is not malicious, so this test shows nothing"


@pytest.mark.parametrize("call", [("builtins", "eval"), ("numpy", "load"), ("numpy._core.multiarray", "scalar")])
def test_the_unpickler_allows_no_other_names(tmp_path, edition, call):
    module, name = call
    edition["test_batch"] = f"c{module}\n{name}\n.".encode()
    lay(tmp_path, edition)
    with fails(f"it asks for {module}.{name}"):
        data_utils.test_data(tmp_path, verify=False)


def batch(**changes):
    content = {"data": np.zeros((20, 3072), np.uint8), "labels": [0] * 20, **changes}
    return dump({key.encode(): value for key, value in content.items() if value is not None})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (batch()[:-1000], "cannot be unpickled"),
        (b"", "cannot be unpickled"),
        (b"not a pickle", "cannot be unpickled"),
        (dump([1, 2]), "no dictionary"),
        (batch(labels=None), "'labels'"),
        (batch(data=None), "'data'"),
        (batch(data=np.zeros((20, 3072), np.int8)), "'data'"),
        (batch(data=np.zeros((20, 3071), np.uint8)), "'data'"),
        (batch(data=np.zeros((19, 3072), np.uint8)), "'data'"),
        (batch(labels=[0] * 19), "'labels'"),
        (batch(labels=[0] * 19 + [10]), "a label"),
        (batch(labels=[0] * 19 + [-1]), "a label"),
        (batch(labels=[0] * 19 + [b"1"]), "a label"),
    ],
)
@pytest.mark.parametrize("verify", [True, False])
def test_a_batch_file_is_checked_whatever_its_md5(tmp_path, edition, monkeypatch, content, message, verify):
    edition["test_batch"] = content
    publish(monkeypatch, edition)
    lay(tmp_path, edition)
    with fails(f"test_batch: .*{message}"):
        data_utils.test_data(tmp_path, verify)


@pytest.mark.parametrize("protocol", range(6))
def test_files_that_python_3_has_pickled_again_are_read(tmp_path, edition, protocol):
    content = {"data": np.full((20, 3072), 7, np.uint8), "labels": [3] * 20, "filenames": [b"a.png"] * 20}
    edition["test_batch"] = pickle.dumps(content, protocol)
    lay(tmp_path, edition)
    images, labels = data_utils.test_data(tmp_path, verify=False)
    assert (images == 7).all() and (labels == 3).all()


def test_a_batch_file_that_never_ends_is_not_opened(tmp_path, edition):
    folder = lay(tmp_path, edition)
    for name, make in (("data_batch_1", os.mkfifo), ("test_batch", lambda path: os.truncate(path, 1 << 40))):
        if make is os.mkfifo:
            (folder / name).unlink()
        make(folder / name)
    with fails("data_batch_1: is a FIFO or a device"):
        data_utils.train_data(tmp_path, verify=False)
    with fails("test_batch: is 1099.5 GB long"):
        data_utils.test_data(tmp_path, verify=False)


def test_bad_class_names_are_refused(tmp_path, edition):
    edition["batches.meta"] = dump({b"label_names": NAMES[:9]})
    lay(tmp_path, edition)
    with fails("batches.meta: .*'label_names'"):
        data_utils.class_names(tmp_path, verify=False)


def test_a_missing_batch_file_is_named(tmp_path, edition):
    del edition["data_batch_3"]
    lay(tmp_path, edition)
    with fails("data_batch_3: missing"):
        data_utils.train_data(tmp_path)


# CIFAR-10: download and unpack


def test_files_that_are_there_need_neither_archive_nor_network(tmp_path, edition):
    folder = lay(tmp_path, edition)
    assert data_utils.download_data(tmp_path, archive=tmp_path / "absent", mirrors=()) == folder


def test_a_changed_byte_is_named_and_kept(tmp_path, edition):
    content = bytearray(edition["data_batch_4"])
    content[len(content) // 2] ^= 1
    folder = lay(tmp_path, {**edition, "data_batch_4": bytes(content)})
    archive = pack(tmp_path / "c.tar.gz", edition)
    with fails("data_batch_4: its md5"):
        data_utils.download_data(tmp_path, archive)
    assert (folder / "data_batch_4").read_bytes() == content
    assert data_utils.download_data(tmp_path, archive, verify=False) == folder
    (folder / "data_batch_4").unlink()
    data_utils.download_data(tmp_path, archive)
    assert (folder / "data_batch_4").read_bytes() == edition["data_batch_4"]


@pytest.mark.parametrize("mode", ["w:gz", "w:xz"])
def test_a_local_archive_is_unpacked_and_nothing_else_is_left(tmp_path, edition, mode):
    archive = pack(tmp_path / "archive", edition, mode)
    target = tmp_path / "new" / "folder"
    folder = data_utils.download_data(target, archive)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == edition
    assert list(target.iterdir()) == [folder]
    assert archive.exists()


def member(name, kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    "hostile",
    [
        member("../x"),
        member("/tmp/x"),
        member(f"{data_utils.FOLDER}/../x"),
        member(f"{data_utils.FOLDER}/.."),
        member(f"/{data_utils.FOLDER}/x"),
        member(f"{data_utils.FOLDER}/x", tarfile.SYMTYPE, "../../x"),
        member(f"{data_utils.FOLDER}/x", tarfile.LNKTYPE, f"{data_utils.FOLDER}/test_batch"),
        member(f"{data_utils.FOLDER}/x", tarfile.FIFOTYPE),
        member(data_utils.FOLDER, tarfile.SYMTYPE, "/tmp"),
    ],
    ids=lambda info: f"{info.name}-{info.type.decode()}",
)
def test_a_hostile_member_is_refused_and_nothing_is_left(tmp_path, edition, hostile):
    archive = pack(tmp_path / "a.tar.gz", edition, extra=[hostile])
    target = tmp_path / "target"
    target.mkdir()
    with fails("a.tar.gz: member .* is not a plain file"):
        data_utils.download_data(target, archive)
    assert not list(target.iterdir()) and sorted(p.name for p in tmp_path.iterdir()) == ["a.tar.gz", "target"]


def header(name, size, kind=tarfile.REGTYPE):
    """A member that announces `size` bytes: only its header, of 512 bytes."""
    info = member(name, kind)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


def sparse(name):
    """A member of 8 TB in 512 bytes: what is said of it at its bytes 386 to 495, as GNU tar does."""
    block = bytearray(header(name, 0, tarfile.GNUTYPE_SPARSE))
    block[483:495] = tarfile.itn(8 << 40, 12, tarfile.GNU_FORMAT)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax_sparse(name, number):
    """A member of a pax archive with a map of `number` places."""
    info = member(name)
    info.size, info.pax_headers = 512, {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"}
    return info.tobuf(tarfile.PAX_FORMAT) + (b"%d\n" % number).ljust(512, b"\0")


BATCH = f"{data_utils.FOLDER}/data_batch_1"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header(BATCH, 8 << 40), "data_batch_1' announces 8,796,093,022,208 bytes"),
        (header("other", 8 << 40), "'other' announces 8,796,093,022,208 bytes"),
        (header(BATCH, data_utils.LARGEST_FILE + 1), "data_batch_1' announces 67,108,865 bytes"),
        (header(BATCH, -512), "data_batch_1' announces -512 bytes"),
        (header("pax", 1 << 30, tarfile.XHDTYPE), "'pax' announces 1,073,741,824 bytes, and 65,536 is the most"),
        (header("long", 1 << 30, tarfile.GNUTYPE_LONGNAME), "'long' announces 1,073,741,824 bytes, and 65,536 is"),
        (sparse(BATCH), "a member is sparse"),
        (pax_sparse(BATCH, 10**15), "a member is sparse"),
        (2 * header("x", 600 << 20), "truncated"),
        (9 * header("x", 0), "more than 8 members"),
        (2000 * (header("pax", 0, tarfile.XHDTYPE)), "truncated, or not a tar"),
        (b"\x1f\x8b" + bytes(100), "truncated, or not a tar"),
        (b"", "truncated, or not a tar"),
        (b"PK\x03\x04" + bytes(100), "truncated, or not a tar archive or zip"),
    ],
)
def test_an_archive_that_announces_too_much_is_refused_at_once(tmp_path, edition, monkeypatch, content, message):
    monkeypatch.setattr(data_utils, "MEMBERS", 8)
    (tmp_path / "archive").write_bytes(content)
    with fails(f"archive: .*{message}"):
        data_utils.download_data(tmp_path / "target", tmp_path / "archive", verify=False)
    assert not list((tmp_path / "target").iterdir())


def repacked(path, files, above):
    """As somebody has packed them who unpacked the published archive: with other folders, and a Mac's files."""
    with tarfile.open(path, "w") as tar:
        for name, content in {**files, "._data_batch_1": b"a Mac's", "archive.zip": b"other"}.items():
            info = tarfile.TarInfo(f"{above}{name}")
            info.size, info.mtime = len(content), 0.5  # not whole: in a pax header
            tar.addfile(info, io.BytesIO(content))
    return path


def zipped(path, files, above):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(f"{above}{name}", content)
    return path


@pytest.mark.parametrize("write", [repacked, zipped])
@pytest.mark.parametrize("above", ["", "./cifar-10-batches-py/", "cifar10/cifar-10-batches-py/"])
def test_an_archive_that_was_packed_again_is_judged_by_its_members(tmp_path, edition, write, above):
    archive = write(tmp_path / "cifar (1)", edition, above)
    folder = data_utils.download_data(tmp_path / "target", archive)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == edition
    write(archive, {**edition, "test_batch": b"altered", "data_batch_2": b"altered"}, above)
    with fails("the md5 of data_batch_2, test_batch is not the published one"):
        data_utils.download_data(tmp_path / "other", archive)


def test_an_archive_of_something_else_is_named_by_what_it_holds(tmp_path, edition):
    with fails(r"archive: holds no batch file \(it holds cifar-100-python/train, .*use .*cifar-10-python.tar.gz"):
        data_utils.download_data(tmp_path, zipped(tmp_path / "archive", {"train": b""}, "cifar-100-python/"))


@pytest.mark.parametrize(
    "place", [".", "cifar-10-batches-py/cifar-10-batches-py", "cifar-10-python/cifar-10-batches-py"]
)
def test_the_files_are_found_where_programs_unpack_them(tmp_path, edition, monkeypatch, place):
    monkeypatch.setenv("HERE", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / place
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in edition.items():
        (folder / name).write_bytes(content)
    for directory in (tmp_path, "$HERE", "${HERE}/.", "~"):
        assert data_utils.download_data(directory, mirrors=()).resolve() == folder.resolve()
        assert len(data_utils.train_data(directory).labels) == 100
    with fails("the variable NOWHERE is not set"):
        data_utils.download_data("$NOWHERE/x", mirrors=())


def test_the_archive_may_lie_at_home(tmp_path, edition, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    pack(tmp_path / "c.tar.gz", edition)
    assert data_utils.download_data(tmp_path / "data", "~/c.tar.gz").is_dir()


def test_what_is_missing_is_named_where_nothing_serves_it(tmp_path, edition):
    del edition["data_batch_5"]
    lay(tmp_path, edition)
    assert data_utils.missing_files(tmp_path) == ["data_batch_5"]
    with fails("no mirror serves CIFAR-10 .*cifar-10-batches-py lacks data_batch_5; set data.archive"):
        data_utils.download_data(tmp_path, mirrors=())


@pytest.mark.parametrize("mode", ["w:gz", "w:xz"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9])
def test_a_truncated_archive_is_refused_and_nothing_is_left(tmp_path, edition, mode, share):
    archive = pack(tmp_path / "archive", edition, mode)
    content = archive.read_bytes()
    archive.write_bytes(content[: int(len(content) * share)])
    with fails("archive: (truncated|holds no)"):
        data_utils.download_data(tmp_path / "target", archive)
    assert not list((tmp_path / "target").iterdir())


def test_other_bad_archives_are_refused(tmp_path, edition):
    with fails("data.archive: .*absent is not a file"):
        data_utils.download_data(tmp_path, tmp_path / "absent")
    text = tmp_path / "text"
    text.write_text("no archive\n" * 1000)
    with fails("text: truncated, or not a tar archive"):
        data_utils.download_data(tmp_path, text)
    altered = pack(tmp_path / "altered", {**edition, "test_batch": edition["test_batch"] + b"."})
    with fails("altered: the md5 of test_batch"):
        data_utils.download_data(tmp_path, altered)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["altered", "text"]


@pytest.mark.parametrize("mode", ["w:gz", "w:xz"])
def test_an_archive_with_overwritten_bytes_is_refused(tmp_path, edition, mode):
    noise = b"".join(hashlib.sha256(bytes([i])).digest() for i in range(200))  # does not compress
    archive = pack(tmp_path / "archive", {"a": noise, **edition}, mode)
    content = archive.read_bytes()
    for start in range(1000, len(content) - 200, len(content) // 20):
        archive.write_bytes(content[:start] + b"\xff" * 100 + content[start + 100 :])
        with fails("archive: "):
            data_utils.download_data(tmp_path / "target", archive)
        assert not list((tmp_path / "target").iterdir())


def test_an_archive_without_one_of_the_files_is_refused(tmp_path, edition):
    del edition["data_batch_5"]
    archive = pack(tmp_path / "archive", edition)
    for verify in (True, False):
        with fails("archive: holds no cifar-10-batches-py/data_batch_5"):
            data_utils.download_data(tmp_path / "target", archive, verify=verify)


def test_only_the_missing_files_are_laid(tmp_path, edition):
    folder = lay(tmp_path, {"test_batch": b"the user's own"})
    data_utils.download_data(tmp_path, pack(tmp_path / "archive", edition), verify=False)
    assert (folder / "test_batch").read_bytes() == b"the user's own"
    assert (folder / "data_batch_1").read_bytes() == edition["data_batch_1"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_an_interrupted_unpacking_leaves_nothing(tmp_path, edition, monkeypatch, error):
    archive = pack(tmp_path / "archive", edition)
    write = Path.write_bytes

    def fail_at_the_third(path, content):
        if path.name == "data_batch_3":
            raise error
        write(path, content)

    monkeypatch.setattr(Path, "write_bytes", fail_at_the_third)
    with pytest.raises((KeyboardInterrupt, UserError)) as caught:
        data_utils.download_data(tmp_path / "target", archive)
    assert isinstance(error, KeyboardInterrupt) or "No space left" in str(caught.value)
    assert not list((tmp_path / "target").iterdir())


def test_a_place_that_cannot_be_written_is_named(tmp_path, edition):
    archive = pack(tmp_path / "archive", edition)
    (tmp_path / "file").touch()
    with fails("file/sub: cannot write CIFAR-10 there"):
        data_utils.download_data(tmp_path / "file" / "sub", archive)


@pytest.fixture
def server(tmp_path):
    """A web server on this machine: (its folder, its address). `/cut` promises more bytes than it sends."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            if self.path != "/cut":
                return super().do_GET()
            content = (root / "good").read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])

        def log_message(self, *args):
            pass

    root = tmp_path / "served"
    root.mkdir()
    handler = functools.partial(Handler, directory=root)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield root, f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


@pytest.fixture
def mirrors(server, edition, monkeypatch):
    """Addresses that answer 404, with another file, with half of the file, and with the file."""
    root, address = server
    good = pack(root / "good", edition)
    (root / "other").write_bytes(good.read_bytes() + b"\0")
    monkeypatch.setattr(data_utils, "ARCHIVE_MD5", hashlib.md5(good.read_bytes()).hexdigest())
    return [f"{address}/{name}" for name in ("absent", "other", "cut", "good")]


def test_mirrors_are_tried_in_order_until_one_serves(tmp_path, edition, mirrors):
    folder = data_utils.download_data(tmp_path / "target", mirrors=mirrors)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == edition
    assert list((tmp_path / "target").iterdir()) == [folder]


def test_no_mirror_serves(tmp_path, edition, mirrors):
    """One line says what every mirror did and what to do; neither a wrong nor a partial file is taken."""
    unreachable = "http://127.0.0.1:1/cifar"
    said = "absent answers 404 .*other serves another file.*cut breaks off.*/cifar cannot be reached"
    with fails(rf"{said}.*data.archive.*data.source: digits"):
        data_utils.download_data(tmp_path / "target", mirrors=[*mirrors[:3], unreachable])
    assert not list((tmp_path / "target").iterdir())
    with fails("data.mirrors: no mirror serves"):
        data_utils.download_data(tmp_path / "target", mirrors=())


# The three sources


def test_load_cifar10_unpacks_reads_and_checks(tmp_path, edition):
    archive = pack(tmp_path / "archive", edition)
    data = settings_for("cifar10", tmp_path / "data", archive=str(archive), validation_fraction=0.2)
    dataset = load_dataset(data, seed=0)
    assert [len(part.labels) for part in dataset[:3]] == [80, 20, 20]
    assert dataset.class_names == tuple(name.decode() for name in NAMES)
    with fails("data.image_size: "):
        load_dataset(settings_for("cifar10", tmp_path / "data", image_size=48), seed=0)


def test_validation_is_a_random_part_by_the_seed(tmp_path, edition):
    lay(tmp_path, edition)

    def parts(seed):
        dataset = load_dataset(settings_for("cifar10", tmp_path, validation_fraction=0.3), seed)
        return [[image.tobytes() for image in split.images] for split in (dataset.train, dataset.validation)]

    train, validation = parts(0)
    everything = [image.tobytes() for image in data_utils.train_data(tmp_path).images]
    assert sorted(train + validation) == sorted(everything) and len(validation) == 30
    assert parts(0) == [train, validation] and parts(1) != [train, validation]
    for fraction in (0.001, 0.999):
        with fails("data.validation_fraction: "):
            load_dataset(settings_for("cifar10", tmp_path, validation_fraction=fraction), 0)


def test_the_real_cifar10(cifar10_directory):
    dataset = load_dataset(settings_for("cifar10", cifar10_directory), seed=0)
    assert dataset.train.images.shape == (50_000, 3, 32, 32) and dataset.test.images.shape == (
        10_000,
        3,
        32,
        32,
    )
    assert np.bincount(dataset.train.labels).tolist() == [5000] * 10
    assert np.bincount(dataset.test.labels).tolist() == [1000] * 10
    assert dataset.class_names == tuple(name.decode() for name in NAMES)
    mean, std = normalization(dataset.train.images, "channel")
    np.testing.assert_allclose(mean.ravel(), [125.307, 122.950, 113.865], atol=1e-3)
    np.testing.assert_allclose(std.ravel(), [62.993, 62.089, 66.705], atol=1e-3)
    assert fill_color(dataset.train.images).tolist() == [125, 123, 114]


def test_importing_data_utils_loads_no_framework_and_nothing_slow():
    code = (
        "import sys, data_utils; print({'paddle', 'tensorflow', 'sklearn', 'PIL', 'pooch', 'rich'} & set(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"
