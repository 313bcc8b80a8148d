"""Losses over features: one per file, without weights, without knowledge of batches or backbones.

Every loss is a sum over the local rows divided by ``count``. One process may leave the count out and gets a
mean; with several processes or micro-batches, hand in the effective batch's count over the number of
processes, so that the sum of gradients is the one of the whole batch. A count of 0 gives an exact 0 that is
still part of the graph. What a mask excludes may hold any value, NaN included: it adds neither loss nor
gradient. Counts are rows, but labelled tokens in `tmg_loss` and labelled patches in `border_bce_loss`.
"""

from training.losses.bank import Bank, info_nce, soft_targets, usable_keys
from training.losses.bic import bic_loss
from training.losses.border_bce import border_bce_loss, border_labels
from training.losses.cap import cap_loss
from training.losses.exp import exp_loss
from training.losses.ied import ied_loss
from training.losses.img import img_giou_loss, img_l1_loss
from training.losses.mac import mac_loss
from training.losses.mgca_bias import mgca_bias_loss
from training.losses.mgca_distill import mgca_distill_loss
from training.losses.mgca_supervise import mgca_supervise_loss
from training.losses.mlc import mlc_loss
from training.losses.numeric import Count
from training.losses.pmm import pmm_loss
from training.losses.tmg import tmg_loss

__all__ = [
    "Bank",
    "Count",
    "bic_loss",
    "border_bce_loss",
    "border_labels",
    "cap_loss",
    "exp_loss",
    "ied_loss",
    "img_giou_loss",
    "img_l1_loss",
    "info_nce",
    "mac_loss",
    "mgca_bias_loss",
    "mgca_distill_loss",
    "mgca_supervise_loss",
    "mlc_loss",
    "pmm_loss",
    "soft_targets",
    "tmg_loss",
    "usable_keys",
]
