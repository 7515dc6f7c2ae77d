"""apt's and dpkg's locks on a host, which unattended upgrades hold for minutes after a boot: pure.

dpkg does not wait for them at all, and apt-get for one of them only. So a script looks at all of them first, says
who has one instead of doing anything, and is run again until nobody has.
"""

from __future__ import annotations

from collections.abc import Iterable

WAIT_SECONDS = 1800
LOOK_SECONDS = 3
FILES = (
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/apt/lists/lock",
    "/var/cache/apt/archives/lock",
)
_HELD = "held by "
_REFUSALS = ("Could not get lock", "Unable to lock", "locked by another process")

# Asks the kernel who would keep us from locking a file. Perl's base is a part of every Debian; /proc/locks names
# files by inodes, which are not those that overlayfs shows.
_WHO = r"""
use Fcntl;
for (@ARGV) {
    open(my $file, "<", $_) or next;
    my $lock = pack("s s x![q] q q i x![q]", F_WRLCK, 0, 0, 0, 0);
    fcntl($file, F_GETLK, $lock) or next;
    my ($kind, undef, undef, undef, $pid) = unpack("s s x![q] q q i", $lock);
    if ($kind != F_UNLCK) { print "$pid $_\n"; last }
}"""


def or_held(script: str) -> str:
    """The script; or, with exit code 0, a line that `holder` reads, where somebody else has one of the locks.

    One that fails because somebody has taken a lock after all says that, too.
    """
    refused = "|".join(f'*"{words}"*' for words in _REFUSALS)
    return "\n".join(
        [
            "held() {",
            f"set -- $(perl -e '{_WHO}' {' '.join(FILES)} 2>/dev/null)",
            '[ -n "$2" ] || return 1',
            "name=$(cat /proc/$1/comm 2>/dev/null)",
            "unit=$(sed -n 's|.*/\\([^/]*\\.service\\).*|\\1|p' /proc/$1/cgroup 2>/dev/null | head -n 1)",
            f'echo "{_HELD}${{name:-a process}} (pid $1${{unit:+, $unit}}): $2"; }}',
            "held && exit 0",
            f"said=$( ( {script}\n) 2>&1 ) && exit 0",
            "held && exit 0",
            f'case "$said" in {refused}) echo "{_HELD}a process that has just ended"; exit 0 ;; esac',
            'echo "$said" >&2; exit 1',
        ]
    )


def holder(lines: Iterable[str]) -> str | None:
    """Who has one of the locks, by the output of such a script; None: it was run."""
    return next((line.removeprefix(_HELD) for line in lines if line.startswith(_HELD)), None)
