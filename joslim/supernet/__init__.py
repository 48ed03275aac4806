"""Slimmable networks: all sub-networks of one stock module, and their files."""

from joslim.supernet.network import SlimmableNetwork as SlimmableNetwork
from joslim.supernet.network import slimmable as slimmable
from joslim.supernet.spec import NetworkSpec as NetworkSpec
from joslim.supernet.storage import Subnetwork as Subnetwork
from joslim.supernet.storage import load as load
from joslim.supernet.storage import load_subnetwork as load_subnetwork
from joslim.supernet.storage import load_supernet as load_supernet
from joslim.supernet.storage import save_subnetwork as save_subnetwork
from joslim.supernet.storage import save_supernet as save_supernet
