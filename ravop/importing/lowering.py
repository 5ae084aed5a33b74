"""Loads the tables of handlers, one module for each reason why a node is not simply made again.

A node meets the handlers in the order of these imports: what is older becomes today's form before training looks at it.
"""

from ravop.importing import constants as constants
from ravop.importing import control as control
from ravop.importing import forms as forms
from ravop.importing import lenient as lenient
from ravop.importing import newer as newer
from ravop.importing import older as older
from ravop.importing import sequences as sequences
from ravop.importing import training as training
