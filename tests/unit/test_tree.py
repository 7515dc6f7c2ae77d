import base64
import io
import subprocess
import tarfile

from deploys.framework import tree
from deploys.framework.tree import Directory, File, Link, Present


def look(*paths):
    done = subprocess.run(["sh", "-c", tree.look_command(map(str, paths))], capture_output=True, text=True)
    assert done.returncode == 0
    return tree.parse_look(done.stdout.splitlines())


def test_a_host_is_described_as_it_is(tmp_path):
    (tmp_path / "file with space").write_text("hello")
    (tmp_path / "file with space").chmod(0o640)
    (tmp_path / "link").symlink_to("/nowhere")
    seen = look(tmp_path / "file with space", tmp_path / "link", tmp_path / "absent", tmp_path)
    assert str(tmp_path / "absent") not in seen
    assert seen[str(tmp_path / "link")].target == "/nowhere"
    file = seen[str(tmp_path / "file with space")]
    assert (file.kind, file.mode) == ("f", "640")
    wanted = File("hello", "640", file.owner, file.group)
    assert tree.differing({str(tmp_path / "file with space"): wanted}, seen) == []


def test_each_kind_of_difference_is_found():
    def seen(kind="f", mode="644", owner="root", group="root", target="", content="x"):
        import hashlib

        return Present(kind, mode, owner, group, target, hashlib.sha256(content.encode()).hexdigest())

    path = "/etc/x"
    for other in (seen(content="y"), seen(mode="600"), seen(owner="nobody"), seen(kind="d"), seen(kind="l")):
        assert tree.differing({path: File("x")}, {path: other}) == [path]
    assert tree.differing({path: File("x")}, {path: seen()}) == []
    assert tree.differing({path: File("x")}, {}) == [path]
    assert tree.differing({path: Link("/a")}, {path: seen("l", target="/b")}) == [path]
    assert tree.differing({path: Link("/a")}, {path: seen("l", target="/a")}) == []
    assert tree.differing({path: Directory("750")}, {path: seen("d", "755")}) == [path]


def test_the_archive_holds_every_entry_with_its_mode():
    text = tree.archive({"/etc/a": File("x", "600"), "/etc/l": Link("/t"), "/var/d": Directory("750")})
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(text))) as tar:
        entries = {entry.name: entry for entry in tar}
    assert entries["etc/a"].mode == 0o600
    assert entries["etc/l"].linkname == "/t"
    assert entries["var/d"].isdir()


def test_nothing_is_replaced_before_the_validation_has_passed():
    script = tree.put_command("nginx", {"/etc/a": File("x")}, ["/etc/a"], "nginx -t -c {root}/etc/a").splitlines()
    validation = script.index("(nginx -t -c /var/lib/griddle/staging/nginx/etc/a)")
    assert script[0] == "set -eu"
    assert validation < min(i for i, line in enumerate(script) if line.startswith(("mv ", "cp ")))


def test_directories_above_files_are_mended(tmp_path, monkeypatch):
    """One that a session with umask 027 has made shuts services out of what is in it."""
    monkeypatch.setattr(tree, "_OF_THE_SYSTEM", {str(path) for path in (tmp_path, *tmp_path.parents)})
    owner = {"owner": tmp_path.owner(), "group": tmp_path.group()}
    script = tmp_path / "lib" / "griddle" / "deep" / "script"
    wanted = tree.with_parents(
        {str(script): File("x", **owner), f"{tmp_path}/own/data": Directory("700", **owner)}
    )
    assert str(tmp_path / "own") not in wanted, "what is above somebody's own directory is not ours"
    assert wanted[f"{tmp_path}/own/data"] == Directory("700", **owner)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "griddle").mkdir(mode=0o750)

    seen = look(*wanted)
    changed = tree.differing(wanted, seen)
    assert str(tmp_path / "lib") not in changed
    put = tree.put_command("test", wanted, changed, None).replace("/var/lib/griddle", str(tmp_path / "state"))
    put = put.replace(" --same-owner", " --no-same-owner")
    subprocess.run(["sh", "-c", f"umask 022\n{put}"], input=tree.archive(wanted), text=True, check=True)
    assert script.read_text() == "x"
    assert [oct(path.stat().st_mode)[-3:] for path in (script, *script.parents[:3])] == [
        "644",
        "755",
        "755",
        "755",
    ]
    assert tree.differing(wanted, look(*wanted)) == []


def test_a_directory_that_somebody_moved_to_another_disk_is_left_alone():
    assert tree.differing({"/opt/x": Directory()}, {"/opt/x": Present("l", "777", "root", "root", "/srv/x")}) == []
    assert tree.with_parents({"/home/deploy/.ssh/authorized_keys": File("")}).keys() == {
        "/home/deploy/.ssh/authorized_keys"
    }
