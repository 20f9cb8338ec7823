"""Memory that training gives back to the system."""

import ctypes

MMAP_THRESHOLD = -3  # glibc's number of `M_MMAP_THRESHOLD`
LARGE_BLOCK = 2**20


def return_large_blocks(size: int = LARGE_BLOCK) -> bool:
    """Let the C library give every freed block of this size back at once, rather than keep it for later.

    By default glibc raises that size whenever a larger block is freed; a backward pass then leaves holes that no later
    activation fits into, and the process's peak grows by a tenth. Getting a block anew costs page faults (a step of
    glip-nano takes a third longer), so this is for runs that save memory. The setting holds for the whole process.

    Args:
        size: bytes.

    Returns:
        Whether there is a C library that knows the setting; without one nothing is changed.
    """
    try:
        accepted: int = ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, size)
    except (AttributeError, OSError, TypeError):  # another C library (musl, macOS), or Windows
        return False
    return bool(accepted)
