"""The CIS Docker Benchmark 1.6.0 by number: which numbers there are, and why some have no control."""

from __future__ import annotations

# Sections and how many recommendations each has.
SECTIONS = {"1.1": 18, "1.2": 2, "2": 18, "3": 24, "4": 12, "5": 32, "6": 2}
NUMBERS = tuple(f"{section}.{number}" for section, count in SECTIONS.items() for number in range(1, count + 1))

# Numbers without a control, each with what it asks for and why nothing is judged. Section 7 is about a swarm, and
# daemon.no-swarm (5.1) sees that there is none.
NOT_JUDGED = {
    "2.1": (
        "Run the daemon as a non-root user, if possible",
        "Rootless Docker needs delegated cgroups to limit anything; services run as users of their own instead (4.1).",
    ),
    "2.9": (
        "Enable user namespace support",
        "It hides all images and volumes that are there; services run as users that own nothing on the host (4.1).",
    ),
    "2.12": (
        "Authorization for Docker client commands",
        "A third party's plugin in the engine's path; nobody but root reaches the engine (1.1.2, 2.7, 3.15).",
    ),
    "4.3": ("No unnecessary packages in images", "A property of images that others build; a judgement, not a state."),
    "4.4": (
        "Images are scanned and rebuilt",
        "A scanner's work, before an image is pinned; images.current sees a container that is behind its image.",
    ),
    "4.6": (
        "HEALTHCHECK in images",
        "Images of others have none; the health check is the release's, and judged as it runs (5.27).",
    ),
    "4.7": ("Update instructions not used alone in Dockerfiles", "About the text of Dockerfiles: a linter's work."),
    "4.8": (
        "setuid and setgid permissions removed",
        "They have no effect: the kernel denies new privileges to every process (5.26, read from /proc).",
    ),
    "4.9": ("COPY instead of ADD in Dockerfiles", "About the text of Dockerfiles: a linter's work."),
    "4.11": ("Only verified packages are installed", "About how images are built; a running host does not show it."),
    "4.12": ("Signed artifacts are validated", "Digests are (4.5); signatures are checked where images are pinned."),
    "6.1": (
        "Image sprawl is avoided",
        "Images that nobody uses may be another's; batten removes its own older ones; host.disk-space sees the rest.",
    ),
    "6.2": (
        "Container sprawl is avoided",
        "lifecycle.present judges the stacks' own; others' are not batten's business.",
    ),
}


def order(number: str) -> tuple[int, ...]:
    """Sort key of a number."""
    return tuple(map(int, number.split(".")))
