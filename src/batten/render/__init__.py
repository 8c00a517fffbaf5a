"""Plan in, text out: the layers, the mounted files and the release payload. Pure but for reading ``compose/``."""

from batten.render.files import RenderedFiles, files, with_digests
from batten.render.layers import Layer, layers, secrets_layer
from batten.render.release import release, write

__all__ = ["Layer", "RenderedFiles", "files", "layers", "release", "secrets_layer", "with_digests", "write"]
