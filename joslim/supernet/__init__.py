"""Slimmable networks: all sub-networks of one stock module, and their files."""

from joslim.supernet.artifact import save_slimmable as save_slimmable
from joslim.supernet.loading import load as load
from joslim.supernet.network import SlimmableNetwork as SlimmableNetwork
from joslim.supernet.network import slimmable as slimmable
from joslim.supernet.slimmable_model import Configuration as Configuration
from joslim.supernet.slimmable_model import SlimmableModel as SlimmableModel
from joslim.supernet.spec import NetworkSpec as NetworkSpec
from joslim.supernet.storage import load_subnetwork as load_subnetwork
from joslim.supernet.storage import load_supernet as load_supernet
from joslim.supernet.storage import save_subnetwork as save_subnetwork
from joslim.supernet.storage import save_supernet as save_supernet
from joslim.supernet.subnetwork import Subnetwork as Subnetwork
