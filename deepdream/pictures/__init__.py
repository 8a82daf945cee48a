"""Pictures: reading and writing them with the settings that made them, starts of dreams, sheets of several."""
from .files import (FORMATS, ONLY_READ, check_file, check_size, check_target, encode, load, refuse_inputs, save,
                    save_new, settings, settings_if_any, showarray, to_uint8, write)

__all__ = ["FORMATS", "ONLY_READ", "check_file", "check_size", "check_target", "encode", "load", "refuse_inputs", "save",
           "save_new", "settings", "settings_if_any", "showarray", "to_uint8", "write"]
