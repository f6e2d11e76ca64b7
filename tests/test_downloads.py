"""`--download`: by https alone, once, and only what has the right checksum. Most need a torchvision that works."""

import gzip
import hashlib
import pickle
import shutil
import ssl
import subprocess
import sys
import tarfile
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import numpy as np
import pytest
import torch
from layouts import batch, idx, random_images, written
from scipy.io import savemat

from oodkit import DataNotFoundError, load_images


@pytest.fixture
def data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("OODKIT_DATA", str(tmp_path))
    return tmp_path


def test_a_download_without_a_working_torchvision_is_one_sentence(data_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(DataNotFoundError, match="torchvision does not work here"):
        load_images("svhn", download=True)
    with pytest.raises(DataNotFoundError, match="notMNIST_small"):  # torchvision does not have it
        load_images("notmnist", download=True)


@pytest.fixture
def torchvision_sets():
    try:
        from torchvision import datasets
    except Exception as error:  # as in `fetch`
        pytest.skip(f"torchvision does not work here: {error}")
    return datasets


class Served(BaseHTTPRequestHandler):
    """Answers with the server's `files`; a file that is a text is an address to go on to."""

    def do_GET(self):
        content = self.server.files.get(self.path)
        self.send_response(404 if content is None else 302 if isinstance(content, str) else 200)
        if isinstance(content, str):
            self.send_header("Location", content)
        body = content if isinstance(content, bytes) else b""
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def servers(tmp_path_factory, monkeypatch):
    """A server of http and one of https, whose certificate is trusted meanwhile: the files of both, and addresses."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("certificate")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, "-keyout", key, "-out", certificate]
    subprocess.run(made, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    plain, secure = (ThreadingHTTPServer(("127.0.0.1", 0), Served) for _ in range(2))
    secure.socket = context.wrap_socket(secure.socket, server_side=True)
    for server, scheme in ((plain, "http"), (secure, "https")):
        server.files, server.address = {}, f"{scheme}://127.0.0.1:{server.server_port}/"
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
    yield plain, secure
    for server in (plain, secure):
        server.shutdown()
        server.server_close()


@pytest.fixture
def svhn(torchvision_sets, servers, monkeypatch):
    """SVHN's test set at the https server, known to torchvision by an address of http: the images, and its file."""
    images = random_images(3, 3, 32)
    content = BytesIO()
    savemat(content, {"X": images.permute(2, 3, 1, 0).numpy(), "y": np.array([[1], [10], [3]])})
    file = content.getvalue()
    _, secure = servers
    entry = [secure.address.replace("https:", "http:") + "test.mat", "test_32x32.mat", hashlib.md5(file).hexdigest()]
    monkeypatch.setattr(torchvision_sets.SVHN, "split_list", {"test": entry})
    return images, file


def test_a_set_is_downloaded_by_https_once(svhn, servers, data_folder):
    images, file = svhn
    _, secure = servers
    secure.files["/test.mat"] = file
    found = load_images("svhn", download=True)
    assert torch.equal(found.images, images)
    assert found.labels.tolist() == [1, 0, 3]
    assert [path.name for path in data_folder.iterdir()] == ["test_32x32.mat"]
    secure.files.clear()
    assert load_images("svhn", download=True).hash == found.hash


def test_a_download_that_is_not_what_it_should_be_is_not_kept(svhn, servers, data_folder):
    _, file = svhn
    _, secure = servers
    secure.files["/test.mat"] = file[:-9] + bytes(9)
    for _ in range(2):  # the second time too: the first has left nothing that could be taken for the set
        with pytest.raises(DataNotFoundError, match=r"the download to .+ failed \(.*corrupted"):
            load_images("svhn", download=True)
    with pytest.raises(DataNotFoundError, match="not on this machine"):
        load_images("svhn")
    assert list(data_folder.iterdir()) == []


def test_a_download_does_not_go_on_by_http(svhn, servers, data_folder):
    _, file = svhn
    plain, secure = servers
    plain.files["/test.mat"] = file
    secure.files["/test.mat"] = f"{plain.address}test.mat"
    with pytest.raises(DataNotFoundError, match=r"http://127.0.0.1:\d+/test.mat is not https"):
        load_images("svhn", download=True)
    assert list(data_folder.iterdir()) == []


class Mine(urllib.request.BaseHandler):
    def mine_open(self, request):
        return BytesIO(request.host.encode())


def test_a_download_gives_a_program_its_own_opener_back(svhn, servers, data_folder):
    _, file = svhn
    urllib.request.install_opener(urllib.request.build_opener(Mine))
    try:
        with pytest.raises(DataNotFoundError, match="failed"):
            load_images("svhn", download=True)
        servers[1].files["/test.mat"] = file
        load_images("svhn", download=True)
        with urllib.request.urlopen("mine://still-here/") as answer:
            assert answer.read() == b"still-here"
    finally:
        urllib.request.install_opener(None)


def test_a_download_joins_what_is_there(torchvision_sets, servers, data_folder, monkeypatch):
    """Four files of MNIST's layout, in a folder that holds another of the user's."""
    _, secure = servers
    images = {"train": random_images(7, 1, 28), "t10k": random_images(3, 1, 28)}
    resources = []
    for word, some in images.items():
        for kind, array in (("images-idx3", some[:, 0]), ("labels-idx1", torch.arange(len(some), dtype=torch.uint8))):
            name, content = f"{word}-{kind}-ubyte.gz", gzip.compress(idx(array.numpy()))
            secure.files[f"/{name}"] = content
            resources.append((name, hashlib.md5(content).hexdigest()))
    monkeypatch.setattr(torchvision_sets.KMNIST, "mirrors", [secure.address])
    monkeypatch.setattr(torchvision_sets.KMNIST, "resources", resources)
    written(data_folder / "KMNIST" / "raw" / "mine.txt", b"mine")
    for split, word in (("test", "t10k"), ("train", "train")):
        assert torch.equal(load_images("kmnist", split, image_shape=(1, 28, 28), download=True).images, images[word])
    assert (data_folder / "KMNIST" / "raw" / "mine.txt").read_bytes() == b"mine"
    assert [path.name for path in data_folder.iterdir()] == ["KMNIST"]


def test_cifar_is_downloaded_and_never_unpickled(torchvision_sets, servers, data_folder, monkeypatch):
    _, secure = servers
    images = random_images(4, 3, 32)
    archive = BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        content = batch(images, [3, 1, 2, 0])
        member = tarfile.TarInfo("cifar-10-batches-py/test_batch")
        member.size = len(content)
        tar.addfile(member, BytesIO(content))
    secure.files["/cifar.tar.gz"] = archive.getvalue()
    monkeypatch.setattr(torchvision_sets.CIFAR10, "url", f"{secure.address}cifar.tar.gz")
    monkeypatch.setattr(torchvision_sets.CIFAR10, "tgz_md5", hashlib.md5(archive.getvalue()).hexdigest())
    monkeypatch.setattr(pickle, "load", None)
    assert torch.equal(load_images("cifar10", download=True).images, images)
    assert (data_folder / "cifar-10-python.tar.gz").is_file()
