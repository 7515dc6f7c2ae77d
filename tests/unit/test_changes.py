"""What a run would change, in words."""

import subprocess

import pytest

from deploys.framework import changes, tree, units
from deploys.framework.changes import Change
from deploys.framework.tree import LARGE_BYTES, Content, Directory, File, Link, Present


def seen(content: str = "old\n", mode: str = "644", kind: str = "f", **more: str) -> Present:
    sha256 = changes._sha256(content.encode()) if kind == "f" else ""
    return Present(
        kind, mode, more.get("owner", "root"), more.get("group", "root"), more.get("target", ""), sha256
    )


def of(
    entry: tree.Entry, now: Present | None, content: str | bytes | None = None, secrets: tuple[str, ...] = ()
) -> Change:
    """What becomes of /etc/x; with its present content, if it was read, as with --diff."""
    contents = None
    if content is not None:
        data = content.encode() if isinstance(content, str) else content
        contents = {"/etc/x": Content(len(data), data[:LARGE_BYTES])}
    (change,) = changes.of_files({"/etc/x": entry}, ["/etc/x"], {"/etc/x": now} if now else {}, contents, secrets)
    return change


@pytest.mark.parametrize(
    ("entry", "now", "words"),
    [
        (File("new"), None, "make /etc/x"),
        (File("new", "755", "a", "b"), None, "make /etc/x: 755 a:b"),
        (File("new\n"), seen(), "change /etc/x"),
        (File("old\n", "755"), seen(), "change /etc/x: mode 644 → 755"),
        (File("new\n", "755", "a", "b"), seen(), "change /etc/x: content; mode 644 → 755; owner root:root → a:b"),
        (File("new\n"), seen(kind="l", target="/y"), "replace /etc/x: it is a link"),
        (File("key", "600"), None, "make /etc/x: 600 root:root; secret, not shown"),
        (File("key", "640"), seen(mode="640"), "change /etc/x: secret, not shown"),
        (File("open\n"), seen(mode="600"), "change /etc/x: content; mode 600 → 644; secret, not shown"),
        (File("old\n", "600"), seen(), "change /etc/x: mode 644 → 600"),
        (Link("/b"), seen(kind="l", target="/a"), "change link /etc/x: /a → /b"),
        (Link("/b"), None, "make link /etc/x: to /b"),
        (Link("/b"), seen(), "replace link /etc/x: it is a file; to /b"),
        (Directory(), None, "make directory /etc/x"),
        (Directory("750", "a", "b"), None, "make directory /etc/x: 750 a:b"),
        (Directory("750"), seen(kind="d", mode="755"), "change directory /etc/x: mode 755 → 750"),
    ],
)
def test_what_becomes_of_a_path_is_said(entry, now, words):
    assert str(of(entry, now)) == words


def test_a_diff_is_a_unified_one():
    change = of(File("a\nB\nc\n"), seen("a\nb\nc\n"), "a\nb\nc\n")
    assert change.diff == ("@@ -1,3 +1,3 @@", " a", "-b", "+B", " c")
    assert of(File("a\nb\n"), None, "").diff == ("@@ -0,0 +1,2 @@", "+a", "+b")
    assert of(File("a"), seen("a\n"), "a\n").diff == ("@@ -1 +1 @@", "-a", "+a (no newline at the end)")
    assert of(File("a\n", "755"), seen("a\n"), "a\n").diff == (), "its content stays"


def test_a_host_s_file_cannot_speak_to_the_terminal():
    assert "-\\x1b]0;x\\x07" in of(File("a\n"), seen("\x1b]0;x\x07\n"), "\x1b]0;x\x07\n").diff


@pytest.mark.parametrize(
    ("entry", "now", "content"),
    [
        (File("key-new\n", "640"), seen(mode="640"), "key-old\n"),
        # what is open from now on was a secret until now, and the other way round
        (File("new\n"), seen("key-old", mode="600"), "key-old\n"),
        (File("key-new\n", "600"), seen(), "old\n"),
        # open by mistake
        (File("-----BEGIN EC PRIVATE KEY-----\nkey-new\n"), seen(), "old\n"),
        (File("new\n"), seen(), "-----BEGIN PRIVATE KEY-----\nkey-old\n"),
        (File("URL=blobstore://key-new:s3cret@host/\n"), None, ""),
        (File("new\n"), seen(), "URL=https://u:key-old@host/\n"),
        (File("hook = https://hooks/key-new\n"), None, ""),
    ],
)
def test_a_secret_is_named_and_not_shown(entry, now, content):
    change = of(entry, now, content, ("https://hooks/key-new",))
    assert change.diff == () and changes.SECRET in change.notes
    assert "key-" not in repr(change) and changes._sha256(entry.data)[:12] not in repr(change)


def test_what_may_be_a_secret_is_not_even_read():
    wanted = {
        "/key": File("b", "600"), "/was": File("b"), "/open": File("b"), "/as": File("old\n", "755"),
        "/new": File("b"), "/large": File("b" * LARGE_BYTES + "b"), "/link": Link("/b"), "/dir": Directory(),
    }  # fmt: skip
    now = {path: seen() for path in wanted} | {"/was": seen(mode="600"), "/link": seen(kind="l")}
    del now["/new"]
    assert changes.to_read(wanted, wanted, now) == ["/open"]


def test_large_and_binary_files_are_told_by_size_and_hash():
    now = seen("x" * 70_000)
    sums = f"{now.sha256[:12]} → {changes._sha256(b'new')[:12]}"
    assert of(File("new"), now, "x" * 70_000).notes == (f"70,000 → 3 bytes, sha256 {sums}",)
    binary = of(File(b"\0\1"), seen("old"), "old")
    assert binary.diff == () and binary.notes[0].startswith("binary, 3 → 2 bytes, sha256 ")
    assert of(File("new\n"), seen(), b"\xff\n").notes[0].startswith("binary, ")
    assert of(File("x" * 70_000), None, "").notes[0].startswith("70,000 bytes, sha256 ")


def test_contents_are_read_back_as_they_are(tmp_path):
    (tmp_path / "a file").write_bytes(b"\0\xff\n")
    (tmp_path / "empty").touch()
    (tmp_path / "large").write_bytes(b"x" * (LARGE_BYTES + 5))
    paths = [str(tmp_path / name) for name in ("a file", "empty", "large", "absent")]
    done = subprocess.run(["sh", "-c", tree.read_command(paths)], capture_output=True, text=True, check=True)
    assert tree.parse_read(done.stdout.splitlines()) == {
        paths[0]: Content(3, b"\0\xff\n"),
        paths[1]: Content(0, b""),
        paths[2]: Content(LARGE_BYTES + 5, b"x" * LARGE_BYTES),
    }


RELOAD = Change("unit", "reload", "nginx.service", ("its input /etc/x changes",))


def test_hosts_that_get_the_same_are_named_together():
    same, own = of(File("a\n"), seen(), "old\n"), of(File("b\n"), seen(), "old\n")
    files = {"app1": [same], "app2": [own], "app3": [same]}
    operations = [("files", files), ("none", {}), ("nginx", {"proxy1": [RELOAD]})]
    lines = changes.listing(operations, 11, lambda line, colour: f"{colour}{line}")
    assert lines == [
        "files",
        "  app1, app3:", "    change /etc/x", "      @@ -1 +1 @@", "      red-old", "      green+a",
        "  app2:", "    change /etc/x", "      @@ -1 +1 @@", "      red-old", "      green+b",
        "nginx",
        "  proxy1:", "    reload nginx.service: its input /etc/x changes",
    ]  # fmt: skip
    assert changes.said(["a", "b", "c", "d"], 4) == "all 4 hosts" and changes.said(["a", "b"], 2) == "a, b"


def test_units_are_summed_up():
    def act(verb, name):
        return Change("unit", verb, name, ("why",))

    workers = [act("restart", "store@a-0"), act("restart", "store@a-1")]
    operations = [
        ("one", {"proxy1": [act("reload", "nginx"), Change("package", "install", "nginx")]}),
        ("two", {"app1": workers, "app2": workers}),
    ]
    assert changes.acts_on_units(operations, 11) == [
        "restart on app1, app2: store@a-0, store@a-1",
        "reload on proxy1: nginx",
    ]


@pytest.mark.parametrize(
    ("name", "path", "is_link", "coming"),
    [
        ("nginx.service", "/etc/nginx/nginx.conf", False, ((), ("/etc/nginx/nginx.conf",))),
        ("nginx.service", "/etc/nginx", False, ((), ("/etc/nginx",))),
        ("nginx.service", "/etc/nginx-other/x", False, ((), ())),
        ("nginx.service", "/etc", False, ((), ())),
        # what lies above an input is no input, unless it leads elsewhere from now on
        ("nginx.service", "/slots/a", False, ((), ())),
        ("nginx.service", "/slots/a", True, ((), ("/slots/a",))),
        ("nginx.service", "/etc/systemd/system/nginx.service", False,
         (("/etc/systemd/system/nginx.service",), ())),
        ("x@a-1.service", "/etc/systemd/system/x@.service", False, (("/etc/systemd/system/x@.service",), ())),
        ("x@a-1.service", "/etc/systemd/system/x@.service.d/a.conf", False,
         (("/etc/systemd/system/x@.service.d/a.conf",), ())),
        ("x@a-1.service", "/etc/systemd/system/y@.service", False, ((), ())),
        ("x.timer", "/etc/systemd/system/x.service", False, ((), ())),
    ],
)  # fmt: skip
def test_what_a_unit_reads_of_paths_that_change_is_known(name, path, is_link, coming):
    found = units.coming(name, ["/etc/nginx", "/slots/a/VERSION"], {path: is_link})
    assert found == units.Coming(*coming)
