"""What a command line names as a network."""

from pathlib import Path

from tandem.config import networks
from tandem.config.load import check_config, load_config
from tandem.core.errors import UserError
from tandem.core.paths import CONFIGS
from tandem.training import checkpoint, trust


def subject(network, overrides=(), warn=print):
    """Resolve `network`: a known name, a config file, your own Python file, a checkpoint or a run folder.

    Returns:
        The checked config, and the state (canonical name to array) if it is a checkpoint or run folder, otherwise None.

    Raises:
        UserError: it is none of these, or the config is wrong.
    """
    network = str(network)
    if network.endswith((".yaml", ".yml")):
        return load_config(network, overrides), None
    if network.endswith(".safetensors") or Path(network, "checkpoints").is_dir():
        path, arrays, metadata = checkpoint.find(network, warn)
        return trust.settings_of(path, arrays, metadata, overrides), arrays
    names = networks.names()
    shipped = CONFIGS / f"{network}.yaml"
    if network not in names and shipped.is_file():
        return load_config(shipped, overrides), None
    if network.endswith(".py"):
        described = {"name": "own", "file": network}
    elif network in names:
        described = {"name": network}
    else:
        kinds = "a config, a checkpoint, a run folder, or a file mynet.py"
        raise UserError(f"{network}: unknown network; use one of {', '.join(names)}; or {kinds}")
    values = {"network": described, "schedule": {"name": "constant"}, "epochs": 1}
    return check_config(values, network, overrides), None
