"""A channel of single files as shards, written by hand as docs/operating.md tells the layout; the data step has its own
code, which tests/contract/test_shards.py holds against the reader."""

import hashlib
import io
import json
import tarfile


def packed(channel, target, per_shard=5, classes=None):
    """-> `target`, the shards of a folder of class folders."""
    target.mkdir(parents=True)
    classes = classes or sorted(path.name for path in channel.iterdir())
    images = [(path, label) for label, name in enumerate(classes) for path in sorted((channel / name).glob("*"))]
    images.sort(key=lambda image: hashlib.sha256(image[0].read_bytes()).hexdigest())
    shards = []
    for start in range(0, len(images), per_shard):
        part, path = images[start : start + per_shard], target / f"{channel.name}-{len(shards):06}.tar"
        files = [file for image, label in part for file in sample(f"{label}/{image.name}", image.read_bytes(), label)]
        path.write_bytes(tar(files))
        shards.append(line(path, len(part)))
    write_index(target, {"classes": classes, "shardlist": shards})
    return target


def sample(name, body, label):
    return [(name, body), (f"{name.partition('.')[0]}.cls", str(label).encode())]


def tar(files, format=tarfile.USTAR_FORMAT, **members):
    """Of (name, bytes) each; `members` of all headers."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as made:
        for name, body in files:
            member = tarfile.TarInfo(name)
            member.size = len(body)
            for attribute, value in members.items():
                setattr(member, attribute, value)
            made.addfile(member, io.BytesIO(body))
    return out.getvalue()


def line(path, count):
    body = path.read_bytes()
    return {
        "url": path.name,
        "nsamples": count,
        "filesize": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
    }


def write_index(folder, changes):
    index = {"__kind__": "wids-shard-index-v1", "wids_version": 1, "format": 1} | changes
    (folder / "index.json").write_text(json.dumps(index))
