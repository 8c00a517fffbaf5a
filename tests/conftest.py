"""One loader of collections for a whole session, before anything of them is imported.

A test that reads an inventory has Ansible's take over from Python's; from then on Python's own packages cannot be used.
"""

from batten.runner import use_ansibles_loader

use_ansibles_loader()
