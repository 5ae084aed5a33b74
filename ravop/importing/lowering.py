"""Loads the tables of handlers: one module for each reason why a node is not simply made again."""

from ravop.importing import constants as constants
from ravop.importing import newer as newer
from ravop.importing import older as older
