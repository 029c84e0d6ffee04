"""The methods by name. To add one: a module with its class, and a row here."""

from collections.abc import Mapping

from pins.errors import SettingError
from pins.oneshot.methods.alps import Alps
from pins.oneshot.methods.magnitude import Magnitude
from pins.oneshot.methods.method import Method
from pins.oneshot.methods.obd import OptimalBrainDamage
from pins.oneshot.methods.obs import Obs
from pins.oneshot.methods.pins import Pins
from pins.oneshot.methods.ria import Ria
from pins.oneshot.methods.sensitivity import Sensitivity
from pins.oneshot.methods.sparsegpt import SparseGpt
from pins.oneshot.methods.trust_region import TrustRegion
from pins.oneshot.methods.wanda import Wanda
from pins.utils.lookup import find

METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Magnitude(),
        Wanda(),
        Ria(),
        SparseGpt(),
        Alps(),
        Obs(),
        Pins(),
        Sensitivity(),
        OptimalBrainDamage(),
        TrustRegion(),
    )
}


def method_named(name: str) -> Method:
    """The method of that name.

    Raises:
        SettingError: there is none.
    """
    return find(METHODS, name, "method", SettingError)
