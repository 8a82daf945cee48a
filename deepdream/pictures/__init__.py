"""Pictures: files with the settings of their dreams, pictures to start from, sheets of several pictures, movies."""
from .files import (FORMATS, ONLY_READ, check_file, check_size, check_suffix, check_target, encode, keeps_alpha,
                    refuse_inputs, save, save_new, settings, settings_if_any, showarray, to_uint8, write)
from .reading import Picture, load, read

__all__ = ["FORMATS", "ONLY_READ", "Picture", "check_file", "check_size", "check_suffix", "check_target", "encode",
           "keeps_alpha", "load", "read", "refuse_inputs", "save", "save_new", "settings", "settings_if_any",
           "showarray", "to_uint8", "write"]
