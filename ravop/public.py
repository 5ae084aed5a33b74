"""All that `import ravop as R` offers; see `ravop`. Only names: each is made in the room it is imported
from.
"""

from ravop import errors as errors
from ravop.autodiff import grad as grad
from ravop.client.api import activate as activate
from ravop.client.api import disconnect as disconnect
from ravop.client.api import execute as execute
from ravop.client.api import fetch as fetch
from ravop.client.api import fetch_many as fetch_many
from ravop.client.api import fetch_persisting_op as fetch_persisting_op
from ravop.client.api import flush as flush
from ravop.client.api import get_my_graphs as get_my_graphs
from ravop.client.api import initialize as initialize
from ravop.client.api import track_progress as track_progress
from ravop.client.graphs import Graph as Graph
from ravop.engine import export_onnx as export_onnx
from ravop.engine import run_local as run_local
from ravop.graph import Op as Op
from ravop.graph.branches import cond as cond
from ravop.graph.branches import fori_loop as fori_loop
from ravop.graph.branches import map as map
from ravop.graph.branches import while_loop as while_loop
from ravop.graph.control import function as function
from ravop.graph.control import scan as scan
from ravop.importing.api import import_onnx as import_onnx
from ravop.importing.api import parameters as parameters
from ravop.importing.model import read_model as read_model
from ravop.ops import *  # noqa: F403
