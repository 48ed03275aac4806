"""What a width configuration costs: MACs, parameters, memory, latency."""

from joslim.costs.exact import COSTS as COSTS
from joslim.costs.exact import Cost as Cost
from joslim.costs.exact import macs as macs
from joslim.costs.exact import memory as memory
from joslim.costs.exact import movable_fraction as movable_fraction
from joslim.costs.exact import params as params
