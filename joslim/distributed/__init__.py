"""Several processes that train one network together."""

from joslim.distributed.batch_norm import with_joint_batchnorm as with_joint_batchnorm
from joslim.distributed.processes import all_gather as all_gather
from joslim.distributed.processes import all_reduce_mean as all_reduce_mean
from joslim.distributed.processes import broadcast as broadcast
from joslim.distributed.processes import data_parallel as data_parallel
from joslim.distributed.processes import is_launched as is_launched
from joslim.distributed.processes import no_sync as no_sync
from joslim.distributed.processes import process_group as process_group
from joslim.distributed.processes import rank as rank
from joslim.distributed.processes import world_size as world_size
